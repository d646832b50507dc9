// The interactive documentation, from the service's own description of itself.
window.SwaggerUIBundle({ url: "/openapi.json", dom_id: "#docs", deepLinking: true, validatorUrl: null, displayRequestDuration: true });
