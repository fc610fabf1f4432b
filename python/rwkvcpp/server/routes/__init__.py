"""The shapes that the server speaks, a module each."""
