"""What a server is told, each setting declared once."""
