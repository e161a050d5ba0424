"""Many pairs on one run: its samples go out in leases to actors of Ray, which write parts that are merged at the end."""
