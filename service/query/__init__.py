"""Reading a store: SQL, finding a sweep, its state, and stores behind a service."""
