"""`kottos top`: the dashboard in a terminal, from a gateway's /admin/feed."""
