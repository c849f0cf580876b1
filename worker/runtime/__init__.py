"""How a container that has only Python becomes a worker: bootstrap, archives on the volume, environments."""
