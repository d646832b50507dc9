// The interactive documentation, from the service's own description of itself; behind a proxy's path prefix, too.
const server = new URL(".", location.href).pathname.replace(/\/$/, "") || "/";
const answer = await fetch("openapi.json");
const spec = { ...await answer.json(), servers: [{ url: server }] };
window.SwaggerUIBundle({ spec, dom_id: "#docs", deepLinking: true, validatorUrl: null, displayRequestDuration: true });
