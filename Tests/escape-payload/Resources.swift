import CEscape
import Glibc

/// Takes as much as it gets of everything that the kernel counts on somebody, says how much, and holds it until SIGTERM.
func hog() {
  var limit = rlimit()
  getrlimit(__rlimit_resource_t(7), &limit)
  limit.rlim_cur = limit.rlim_max
  setrlimit(__rlimit_resource_t(7), &limit)
  report("inotify instances", count(4096) { inotify_init1(0) >= 0 })
  report("queued signals", queueSignals(200_000))
  report("timers", count(100_000) { createTimer() })
  report("message queues", count(1000) { messageQueue("/hog\($0)") })
  report("System V message queues", count(1000) { msgget(key_t($0 + 1), 0o1600) >= 0 })
  report("System V memory", count(1000) { shmget(key_t($0 + 1), 4096, 0o1600) >= 0 })
  report("pseudo terminals", count(8192) { open("/dev/ptmx", O_RDWR | O_NOCTTY) >= 0 })
  report("asynchronous I/O", count(64) { _ in call("io_setup", 4096, zeros(8)) >= 0 })
  report("epoll instances", count(500) { call("epoll_create1", 0) >= 0 })
  report("large pipes", count(512) { largePipe() })
  report("files", count(200_000) { dup(1) >= 0 })
  report("holding", "done")
  // The default action of SIGTERM ends this.
  while true { pause() }
}

/// Whether someone else still gets one of each: run in another job, and on the host as root.
func checkResources() {
  report("inotify instances", attempt { inotify_init1(0) })
  report("queued signals", queueSignals(1).hasPrefix("1 ") ? "done" : "refused")
  report("timers", createTimer() ? "done" : word(Int(-errno)))
  report("message queues", messageQueue("/check") ? "done" : word(Int(-errno)))
  report("System V message queues", attempt { msgget(0, 0o1600) })
  report("System V memory", attempt { shmget(0, 4096, 0o1600) })
  report("pseudo terminals", opening("/dev/ptmx", O_RDWR | O_NOCTTY))
  report("epoll instances", word(call("epoll_create1", 0)))
  report("large pipes", largePipe() ? "done" : word(Int(-errno)))
  report("processes", inChild { _ in 0 } == "exit 0" ? "done" : "refused")
}

/// Calls until it is refused: how often it was not, and the error.
private func count(_ most: Int, _ body: (Int) -> Bool) -> String {
  for number in 0..<most where !body(number) { return "\(number) \(word(Int(-errno)))" }
  return "\(most) unlimited"
}
private func count(_ most: Int, _ body: () -> Bool) -> String { count(most) { _ in body() } }

private func queueSignals(_ most: Int) -> String {
  var set = sigset_t()
  sigemptyset(&set)
  sigaddset(&set, 40)
  sigprocmask(SIG_BLOCK, &set, nil)
  let own = getpid()
  return count(most) { sigqueue(own, 40, sigval()) == 0 } + (most == 1 ? " " : "")
}

private func createTimer() -> Bool {
  var event = sigevent()
  event.sigev_notify = 0  // SIGEV_SIGNAL
  event.sigev_signo = 41
  var timer: timer_t?
  return timer_create(CLOCK_MONOTONIC, &event, &timer) == 0
}

private func messageQueue(_ name: String) -> Bool {
  // mq_open(3) is variadic; the call itself takes the name without its slash, and struct mq_attr.
  let attributes = UnsafeMutablePointer<Int>.allocate(capacity: 8)
  defer { attributes.deallocate() }
  for index in 0..<8 { attributes[index] = 0 }
  attributes[1] = 10
  attributes[2] = 8192
  let result = String(name.dropFirst()).withCString {
    call("mq_open", Int(bitPattern: $0), Int(O_RDWR | O_CREAT), 0o600, Int(bitPattern: attributes))
  }
  if result < 0 { errno = CInt(-result) }
  return result >= 0
}

private func largePipe() -> Bool {
  var ends: [CInt] = [0, 0]
  guard pipe(&ends) == 0 else { return false }
  return fcntl(ends[0], 1031 /* F_SETPIPE_SZ */, 1 << 20) >= 0
}

/// Uses up memory in one of the ways there are, far beyond any limit of its job; says where it was refused, if it was not
/// killed for it.
func bomb(_ kind: String) {
  report("bomb", "begins")
  let block = 1 << 20
  let bytes = UnsafeMutableRawPointer.allocate(byteCount: block, alignment: 4096)
  bytes.initializeMemory(as: UInt8.self, repeating: 0x55, count: block)
  switch kind {
  case "heap":
    // By the call itself: what a compiler knows to be an allocation, and never read, it may leave out.
    for _ in 0..<4096 {
      let memory = call("mmap", 0, block, 3, 0x22, -1, 0)
      guard memory > 0 else { break }
      UnsafeMutableRawPointer(bitPattern: memory)?.copyMemory(from: bytes, byteCount: block)
    }
  case "memfd":
    let file = call("memfd_create", pointer("bomb"), 1)
    report(kind, fill(CInt(file), bytes, block))
  case "shared":
    for number in 0..<4096 {
      let id = shmget(key_t(number + 1), block, 0o1600)
      guard id >= 0, let address = shmat(id, nil, 0), Int(bitPattern: address) != -1 else { break }
      address.initializeMemory(as: UInt8.self, repeating: 1, count: block)
      shmdt(address)
    }
  case "pipes":
    for _ in 0..<4096 {
      var ends: [CInt] = [0, 0]
      guard pipe(&ends) == 0 else { break }
      let size = fcntl(ends[1], 1031 /* F_SETPIPE_SZ */, 1 << 20)
      write(ends[1], bytes, max(Int(size), 4096))
    }
  default:
    // A path: a tmpfs (memory), or a disk (page cache, which the kernel takes back).
    let file = open("\(kind)/bomb", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
    report("fill \(kind)", fill(file, bytes, block))
    unlink("\(kind)/bomb")
  }
  report("bomb", "survived")
}

private func fill(_ file: CInt, _ bytes: UnsafeMutableRawPointer, _ block: Int) -> String {
  guard file >= 0 else { return word(Int(-errno)) }
  for number in 0..<256 where write(file, bytes, block) <= 0 { return "\(number) MiB \(word(Int(-errno)))" }
  return "256 MiB"
}

/// Makes empty files until it is refused.
func fillInodes(_ folder: String) {
  report(
    "inodes of \(folder)",
    count(200_000) {
      let file = open("\(folder)/\($0)", O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
      if file >= 0 { close(file) }
      return file >= 0
    })
}

/// Writes lines as fast as they are taken.
func floodLog(_ megabytes: Int) {
  let block = UnsafeMutableRawPointer.allocate(byteCount: 1 << 20, alignment: 4096)
  block.initializeMemory(as: UInt8.self, repeating: 0x78, count: 1 << 20)
  for line in stride(from: 127, to: 1 << 20, by: 128) { block.storeBytes(of: 10, toByteOffset: line, as: UInt8.self) }
  for _ in 0..<megabytes {
    var written = 0
    while written < 1 << 20 {
      let count = write(1, block + written, (1 << 20) - written)
      guard count > 0 else { return }
      written += count
    }
  }
}
