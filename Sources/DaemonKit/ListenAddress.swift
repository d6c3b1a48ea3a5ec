import Glibc

/// Where a daemon listens: a unix socket's path, or a TCP address and port.
public enum ListenAddress: Sendable, Hashable, CustomStringConvertible {
  case unix(String)
  /// An IPv4 or IPv6 literal, without brackets, and a port from 0 (any free one) to 65535.
  case tcp(address: String, port: Int)

  /// What a `--listen` option or a message may say, for errors and `--help`.
  public static let allowed = "unix:/absolute/path, tcp:ADDRESS:PORT or tcp:[IPV6]:PORT"

  /// Reads `unix:/path`, `tcp:127.0.0.1:50051` or `tcp:[::1]:50051`.
  public init?(_ text: some StringProtocol) {
    if text.hasPrefix("unix:/") {
      let path = String(text.dropFirst(5))
      guard path.utf8.count <= ListenAddress.longestPath, !path.utf8.contains(0) else { return nil }
      self = .unix(path)
      return
    }
    guard text.hasPrefix("tcp:"), let colon = text.lastIndex(of: ":"), colon > text.index(text.startIndex, offsetBy: 3)
    else { return nil }
    var host = String(text[text.index(text.startIndex, offsetBy: 4)..<colon])
    if host.hasPrefix("[") && host.hasSuffix("]") { host = String(host.dropFirst().dropLast()) }
    guard let port = Int(text[text.index(after: colon)...]), (0...65535).contains(port),
      SocketAddressBytes(address: host, port: port) != nil
    else { return nil }
    self = .tcp(address: host, port: port)
  }

  /// `sun_path` of unix(7) holds 108 bytes with its terminator.
  static let longestPath = 107

  public var description: String {
    switch self {
    case .unix(let path): "unix:\(path)"
    case .tcp(let address, let port): address.contains(":") ? "tcp:[\(address)]:\(port)" : "tcp:\(address):\(port)"
    }
  }
}

/// One `--listen NAME=ADDRESS` option.
public struct ListenOption: Sendable, Hashable {
  public var name: String
  public var address: ListenAddress

  public init(name: String, address: ListenAddress) {
    self.name = name
    self.address = address
  }

  /// Reads `NAME=unix:/path` or `NAME=tcp:ADDRESS:PORT`.
  /// - Throws: ``DaemonError`` that says what is allowed.
  public init(_ text: String) throws {
    guard let equals = text.firstIndex(of: "="), equals != text.startIndex,
      let address = ListenAddress(text[text.index(after: equals)...])
    else {
      throw DaemonError(
        "--listen '\(text)' is not understood; it takes NAME=ADDRESS where ADDRESS is \(ListenAddress.allowed)")
    }
    self.init(name: String(text[..<equals]), address: address)
  }
}

/// A `sockaddr` of any family, as the bytes bind(2) takes.
struct SocketAddressBytes {
  var storage = sockaddr_storage()
  var length: socklen_t
  var family: CInt { CInt(storage.ss_family) }

  init?(address: String, port: Int) {
    var four = sockaddr_in()
    var six = sockaddr_in6()
    if inet_pton(AF_INET, address, &four.sin_addr) == 1 {
      four.sin_family = sa_family_t(AF_INET)
      four.sin_port = in_port_t(port).bigEndian
      length = socklen_t(MemoryLayout<sockaddr_in>.size)
      withUnsafeMutableBytes(of: &storage) { $0.storeBytes(of: four, as: sockaddr_in.self) }
    } else if inet_pton(AF_INET6, address, &six.sin6_addr) == 1 {
      six.sin6_family = sa_family_t(AF_INET6)
      six.sin6_port = in_port_t(port).bigEndian
      length = socklen_t(MemoryLayout<sockaddr_in6>.size)
      withUnsafeMutableBytes(of: &storage) { $0.storeBytes(of: six, as: sockaddr_in6.self) }
    } else {
      return nil
    }
  }

  init?(path: String) {
    guard path.utf8.count <= ListenAddress.longestPath, !path.isEmpty else { return nil }
    var local = sockaddr_un()
    local.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &local.sun_path) { $0.copyBytes(from: path.utf8) }
    length = socklen_t(MemoryLayout<sockaddr_un>.size)
    withUnsafeMutableBytes(of: &storage) { $0.storeBytes(of: local, as: sockaddr_un.self) }
  }

  /// The address a descriptor is bound to (getsockname(2)); nil for a family Joblet does not use.
  static func bound(to fd: CInt) -> ListenAddress? {
    var storage = sockaddr_storage()
    var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
    let result = withUnsafeMutablePointer(to: &storage) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(fd, $0, &length) }
    }
    guard result == 0 else { return nil }
    let family = CInt(storage.ss_family)
    return withUnsafeBytes(of: storage) { bytes -> ListenAddress? in
      switch family {
      case AF_UNIX:
        let offset = MemoryLayout<sockaddr_un>.offset(of: \.sun_path) ?? 2
        let path = bytes[offset..<max(offset, Int(length))].prefix { $0 != 0 }
        return .unix(String(decoding: path, as: UTF8.self))
      case AF_INET:
        var address = bytes.load(as: sockaddr_in.self)
        return text(AF_INET, &address.sin_addr).map {
          .tcp(address: $0, port: Int(in_port_t(bigEndian: address.sin_port)))
        }
      case AF_INET6:
        var address = bytes.load(as: sockaddr_in6.self)
        return text(AF_INET6, &address.sin6_addr).map {
          .tcp(address: $0, port: Int(in_port_t(bigEndian: address.sin6_port)))
        }
      default: return nil
      }
    }
  }

  private static func text(_ family: CInt, _ address: UnsafeRawPointer) -> String? {
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(INET6_ADDRSTRLEN)) { buffer in
      guard let base = buffer.baseAddress, inet_ntop(family, address, base, socklen_t(INET6_ADDRSTRLEN)) != nil else {
        return nil
      }
      return String(cString: base)
    }
  }
}
