"""OpenAI's shapes, a file for each step: bodies, what they mean, answers whole and in parts."""
