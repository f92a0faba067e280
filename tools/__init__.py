"""What an operator runs and ends: each folder is one command of `./placar`."""
