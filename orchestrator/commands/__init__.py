"""Commands of the command line; a command's module is loaded when the command runs."""
