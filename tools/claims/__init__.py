"""The claims, one row each in the order of their issue: the foundation's in `foundation_rows`,
those about CPU speed in `cpu_rows`, those about scheduling and the KV cache in `scheduler_rows`;
how a row is proved, in the modules beside them."""
