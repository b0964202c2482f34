//! What makes a program a daemon: logging, shutdown, TLS identity.
