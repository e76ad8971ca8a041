"""PostgreSQL: frontend/backend protocol 3.0, read, classified, decided on, forwarded and masked."""
