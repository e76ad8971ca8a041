"""Who asks: one authenticator for each kind of credential, and the subject that they make of it."""
