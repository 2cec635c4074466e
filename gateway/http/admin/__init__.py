"""Routes below /admin/, for those who look after the fleet; gateway/http/auth.py lets nobody else in."""
