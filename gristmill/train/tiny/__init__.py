"""The embedded model: a language model of a fifth of a million weights, and the world of tasks it lives in."""
