"""Lists, shows and replays dead letters."""
