"""The commands, one file each: a configuration and the function that `rmkit COMMAND` calls."""
