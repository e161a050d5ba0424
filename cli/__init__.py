"""The command line `rrti`: one module a command. A command parses, makes one library call and prints."""
