import CGNU
import Glibc
import JobletModel
import JobletWire
import Logging
import Synchronization

/// Accepts writers: checks who connects (SO_PEERCRED, unix(7)), bounds how many, gives each a thread.
package final class WriteServer: Sendable {
  private let listener: CInt
  private let intake: Intake
  private let maxPayload: Int
  private let maxConnections: Int
  private let allowedUsers: Set<UInt32>
  private let logger: Logger
  private let open = Mutex<[ObjectIdentifier: (connection: WriteConnection, thread: WorkerThread?)]>([:])
  /// A pipe: a byte in it ends the accepting thread.
  private let wake: (read: CInt, write: CInt)

  init(
    listening descriptor: CInt, intake: Intake, maxPayload: Int, maxConnections: Int, allowedUsers: Set<UInt32>,
    logger: Logger
  ) throws {
    listener = descriptor
    self.intake = intake
    self.maxPayload = maxPayload
    self.maxConnections = maxConnections
    self.allowedUsers = allowedUsers
    self.logger = logger
    var ends: [CInt] = [-1, -1]
    guard pipe(&ends) == 0 else { throw PersistError.system(call: "pipe", path: "", errno: errno) }
    wake = (ends[0], ends[1])
    for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
  }

  deinit {
    close(wake.read)
    close(wake.write)
  }

  /// The accepting thread's life: until ``stop()``.
  package func run() {
    var waits = [
      pollfd(fd: listener, events: Int16(POLLIN), revents: 0), pollfd(fd: wake.read, events: Int16(POLLIN), revents: 0),
    ]
    while true {
      guard poll(&waits, 2, -1) > 0 else { continue }
      if waits[1].revents != 0 { return }
      let descriptor = accept4(listener, nil, nil, CInt(SOCK_CLOEXEC.rawValue))
      guard descriptor >= 0 else {
        if errno == EMFILE || errno == ENFILE || errno == ENOMEM {
          logger.error("can't accept a writer: \(String(cString: strerror(errno)))")
          usleep(100_000)
        }
        continue
      }
      admit(descriptor)
    }
  }

  private func admit(_ descriptor: CInt) {
    guard let peer = Peer(socket: descriptor) else {
      close(descriptor)
      return
    }
    let name = "pid \(peer.pid), uid \(peer.uid)"
    let connection = WriteConnection(
      descriptor, intake: intake, maxPayload: maxPayload, peer: name, logger: logger)
    guard allowedUsers.contains(peer.uid) else {
      logger.warning("refused a writer: \(name) may not use this socket")
      connection.refuse(Problem(.forbidden, "uid \(peer.uid) may not write to this socket"))
      return
    }
    let id = ObjectIdentifier(connection)
    let isAdmitted = open.withLock { open in
      guard open.count < maxConnections else { return false }
      open[id] = (connection, nil)
      return true
    }
    guard isAdmitted else {
      let why = "\(maxConnections) write connections are open, which is the limit (persist.ipc.max_connections)"
      logger.warning("refused a writer (\(name)): \(why)")
      connection.refuse(Problem(.unavailable, why, retryAfter: 1))
      return
    }
    do {
      let thread = try WorkerThread("ingest") { [self] in
        connection.run()
        // Whoever takes the entry out lets the thread go; at the stop it is joined instead.
        if let thread = open.withLock({ $0.removeValue(forKey: id)?.thread }) { thread.detach() }
      }
      open.withLock { open in
        if open[id] != nil { open[id]?.thread = thread } else { thread.detach() }
      }
    } catch {
      logger.error("can't serve a writer: \(error)")
      _ = open.withLock { $0.removeValue(forKey: id) }
    }
  }

  /// Ends accepting and every connection, when what they received is taken in. Blocks.
  package func stop() {
    var byte: UInt8 = 1
    _ = write(wake.write, &byte, 1)
    let left = open.withLock { open in
      defer { open = [:] }
      return Array(open.values)
    }
    for entry in left { entry.connection.stop() }
    for entry in left { entry.thread?.join() }
  }
}

/// Who is at the other end of a socket.
private struct Peer {
  var pid: Int32
  var uid: UInt32

  /// Asks the kernel. Nil if the peer is gone. (`struct ucred` is three 32-bit numbers that Swift's Glibc does not show.)
  init?(socket descriptor: CInt) {
    var raw = (Int32(0), UInt32(0), UInt32(0))
    var length = socklen_t(MemoryLayout.size(ofValue: raw))
    guard getsockopt(descriptor, SOL_SOCKET, SO_PEERCRED, &raw, &length) == 0 else { return nil }
    (pid, uid) = (raw.0, raw.1)
  }
}
