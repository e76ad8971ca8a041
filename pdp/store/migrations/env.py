"""Runs the migrations on the connection that `pdp.store.database` hands over; there is no other way to run them."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], transaction_per_migration=False)
context.run_migrations()
