"""`kottos chat`: a conversation with a model, through a gateway."""
