"""One job: what comes in, what goes out, progress, cancellation and deadlines."""
