"""What each command does; a command's module is loaded when the command runs."""
