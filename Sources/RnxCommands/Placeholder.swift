// RnxCommands
