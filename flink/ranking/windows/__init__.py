"""What a window is and how its ranking is made: plain Python, no Flink."""
