"""Records of sessions: taken in order, byte for byte, and given out again."""
