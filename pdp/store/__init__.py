"""Where sessions, approvals, records and keys are kept: SQLite by SQLAlchemy, its shape by migrations."""
