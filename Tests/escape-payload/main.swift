// The hostile program that the Escape suites run as a job: it tries what its first argument names, and says a line for each
// attempt what came of it. It expects nothing; what must have been refused, and how, the suites know.
import Glibc

let arguments = CommandLine.arguments.dropFirst().map { $0 }
func argument(_ index: Int) -> String { arguments.indices.contains(index) ? arguments[index] : "" }

// A written line must be seen even if the next attempt ends the process; a closed pipe must not.
signal(SIGPIPE, SIG_IGN)

switch argument(0) {
case "files": attackFiles(secret: argument(1), folder: argument(2))
case "kernel-files": attackKernelFiles()
case "calls": attackSystemCalls()
case "fatal": attackFatally(argument(1))
case "processes": attackProcesses()
case "leave": leaveOthersBehind()
case "fork-bomb": forkBomb()
case "crash": crash()
case "whoami": whoAmI()
case "hog": hog()
case "check": checkResources()
case "bomb": bomb(argument(1))
case "inodes": fillInodes(argument(1))
case "flood": floodLog(Int(argument(1)) ?? 1)
case "victim": beVictim()
case "neighbour": attackNeighbour(victim: argument(1), pids: arguments.dropFirst(2).compactMap { Int32($0) })
case "listen": listenAbstract()
default:
  report("unknown attack", argument(0))
  exit(64)
}
// No destructors, no flushing: what was left running must not be run twice.
_exit(0)
