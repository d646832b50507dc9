"""Reading a store: SQL, finding a sweep, the state it is in, and stores behind a service."""
