"""Python with the project at hand, and `await` at the prompt."""
