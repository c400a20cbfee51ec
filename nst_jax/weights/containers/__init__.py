"""How files hold named arrays. No container knows what the names mean."""
