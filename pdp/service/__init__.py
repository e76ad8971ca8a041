"""The calls of the contract: messages in, messages out. No knowledge of policies, none of SQL."""
