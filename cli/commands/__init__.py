"""What each part of `kottos` takes. Nothing heavy is imported before a command runs, so that help is there at once."""
