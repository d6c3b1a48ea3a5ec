import Glibc

/// Makes a listening socket for a daemon that runs without systemd. A unix socket's file is 0660 and replaces the file
/// of a daemon that is gone; one that still answers is an error.
/// - Throws: ``DaemonError`` naming the address and the system's reason.
package func bindListener(name: String, to address: ListenAddress) throws -> Listener {
  let bytes: SocketAddressBytes?
  switch address {
  case .unix(let path):
    bytes = SocketAddressBytes(path: path)
    try removeStaleSocket(path)
  case .tcp(let host, let port): bytes = SocketAddressBytes(address: host, port: port)
  }
  guard var bytes else { throw DaemonError("'\(address)' is not an address; allowed: \(ListenAddress.allowed)") }
  let kind = CInt(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
  let descriptor = socket(bytes.family, kind, 0)
  guard descriptor >= 0 else { throw DaemonError.system("socket for \(address)") }
  do {
    if case .tcp = address {
      var on: CInt = 1
      setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, socklen_t(MemoryLayout<CInt>.size))
    }
    // The file must not be open to others even between bind and chmod.
    let mask = umask(0o117)
    let length = bytes.length
    let result = withUnsafePointer(to: &bytes.storage) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(descriptor, $0, length) }
    }
    let code = errno
    umask(mask)
    guard result == 0 else { throw DaemonError.system("binding '\(name)' to \(address)", code) }
    guard listen(descriptor, SOMAXCONN) == 0 else { throw DaemonError.system("listening on \(address)") }
  } catch {
    close(descriptor)
    throw error
  }
  // A port of 0 became a real one.
  let bound = SocketAddressBytes.bound(to: descriptor) ?? address
  return Listener(name: name, address: bound, descriptor: descriptor, isInherited: false)
}

private func removeStaleSocket(_ path: String) throws {
  var status = stat()
  guard lstat(path, &status) == 0 else { return }
  guard status.st_mode & S_IFMT == S_IFSOCK else {
    throw DaemonError("'\(path)' exists and is not a socket; remove it or listen elsewhere")
  }
  guard let bytes = SocketAddressBytes(path: path) else { return }
  let probe = socket(AF_UNIX, CInt(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
  guard probe >= 0 else { throw DaemonError.system("socket") }
  defer { close(probe) }
  let answered = withUnsafePointer(to: bytes.storage) {
    $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(probe, $0, bytes.length) }
  }
  guard answered != 0 else { throw DaemonError("'\(path)' is in use by a running daemon") }
  guard unlink(path) == 0 || errno == ENOENT else { throw DaemonError.system("removing the old socket '\(path)'") }
}
