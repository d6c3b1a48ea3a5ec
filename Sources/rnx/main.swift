import RnxCommands

await Rnx.start()
