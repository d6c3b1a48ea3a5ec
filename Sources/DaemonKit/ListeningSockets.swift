import CSystemd
import Glibc

/// A listening socket a daemon was given or made.
public struct Listener: Sendable, Hashable {
  /// `FileDescriptorName=` of the socket unit: `api`, `exec`, `ipc` …
  public var name: String
  /// Where it is bound.
  public var address: ListenAddress
  /// Non-blocking and close-on-exec; whoever serves it closes it.
  public var descriptor: CInt
  /// True when systemd made it: then its file's owner and mode are the unit's, and peers are the unit's users.
  public var isInherited: Bool

  package init(name: String, address: ListenAddress, descriptor: CInt, isInherited: Bool) {
    self.name = name
    self.address = address
    self.descriptor = descriptor
    self.isInherited = isInherited
  }
}

/// A listening socket that a daemon needs, and where its configuration says it stands.
public struct ExpectedListener: Sendable, Hashable {
  public var name: String
  public var address: ListenAddress

  public init(name: String, address: ListenAddress) {
    self.name = name
    self.address = address
  }
}

/// The listening sockets of a daemon: inherited from systemd (sd_listen_fds_with_names(3)), or made from `--listen` options.
public struct ListeningSockets: Sendable {
  private var listeners: [String: Listener] = [:]

  /// The listener of a name.
  /// - Throws: ``DaemonError`` when the daemon never asked for it.
  public func listener(_ name: String) throws -> Listener {
    guard let listener = listeners[name] else {
      throw DaemonError(
        "no listening socket named '\(name)'; there are: \(listeners.keys.sorted().joined(separator: ", "))")
    }
    return listener
  }

  /// Takes what systemd passed, or makes what `--listen` says. Exactly the expected names, no more and no fewer.
  /// - Throws: ``DaemonError`` that names the socket, where it is, and where the configuration says it should be.
  public static func open(_ expected: [ExpectedListener], options: [ListenOption] = []) throws -> ListeningSockets {
    let inherited = try inheritedListeners()
    if options.isEmpty {
      return try matching(inherited, expected)
    }
    guard inherited.isEmpty else {
      throw DaemonError(
        "both --listen and sockets inherited from systemd: remove --listen from the unit, or start from a terminal")
    }
    return try making(options, expected)
  }

  /// Holds inherited sockets against the configuration: under activation the socket unit decides where a daemon listens,
  /// and a daemon that serves elsewhere than its configuration says would be found by nobody.
  package static func matching(_ inherited: [Listener], _ expected: [ExpectedListener]) throws -> ListeningSockets {
    var sockets = ListeningSockets()
    let usage = expected.map { "--listen \($0.name)=\($0.address)" }.joined(separator: " ")
    guard !inherited.isEmpty else {
      throw DaemonError(
        "systemd passed no sockets. Start the .socket unit, or from a terminal say where to listen: \(usage)")
    }
    for want in expected {
      guard let have = inherited.first(where: { $0.name == want.name }) else {
        let names = inherited.map(\.name).joined(separator: ", ")
        throw DaemonError(
          "the socket unit passed no socket named '\(want.name)' (it passed: \(names)); see FileDescriptorName=")
      }
      guard have.address == want.address else {
        throw DaemonError(
          "socket '\(want.name)' listens on \(have.address) but the configuration says \(want.address): "
            + "run contrib/install again, which writes the socket unit's drop-in from the configuration, or change the configuration; "
            + "if the unit says the same already, it has not listened anew: systemctl stop joblet && systemctl start joblet"
        )
      }
      sockets.listeners[want.name] = have
    }
    let known = Set(expected.map(\.name))
    if let extra = inherited.first(where: { !known.contains($0.name) }) {
      throw DaemonError(
        "unexpected socket '\(extra.name)' on \(extra.address); expected: \(known.sorted().joined(separator: ", "))")
    }
    return sockets
  }

  private static func making(_ options: [ListenOption], _ expected: [ExpectedListener]) throws -> ListeningSockets {
    var sockets = ListeningSockets()
    let names = expected.map(\.name)
    if let unknown = options.first(where: { !names.contains($0.name) }) {
      throw DaemonError(
        "--listen names '\(unknown.name)', which this program does not have; it has: \(names.joined(separator: ", "))")
    }
    for want in expected {
      let given = options.filter { $0.name == want.name }
      guard let option = given.first, given.count == 1 else {
        throw DaemonError(
          given.isEmpty
            ? "--listen for '\(want.name)' is missing: for example --listen \(want.name)=\(want.address)"
            : "--listen \(want.name)= is given \(given.count) times")
      }
      sockets.listeners[want.name] = try bindListener(name: option.name, to: option.address)
    }
    return sockets
  }

  private static func inheritedListeners() throws -> [Listener] {
    var names: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
    // The variables go from the environment, so that no child believes the sockets are its own.
    let count = sd_listen_fds_with_names(1, &names)
    guard count >= 0 else { throw DaemonError.system("reading the sockets systemd passed (sd_listen_fds)", -count) }
    defer {
      if let names {
        for index in 0..<Int(count) { free(names[index]) }
        free(names)
      }
    }
    return try (0..<Int(count)).map { index in
      let descriptor = CInt(SD_LISTEN_FDS_START) + CInt(index)
      let name = names?[index].map { String(cString: $0) } ?? ""
      guard sd_is_socket(descriptor, AF_UNSPEC, CInt(SOCK_STREAM.rawValue), 1) > 0,
        let address = SocketAddressBytes.bound(to: descriptor)
      else {
        throw DaemonError("descriptor \(descriptor) ('\(name)') passed by systemd is not a listening stream socket")
      }
      try setNonBlocking(descriptor)
      return Listener(name: name, address: address, descriptor: descriptor, isInherited: true)
    }
  }

  private static func setNonBlocking(_ descriptor: CInt) throws {
    let flags = fcntl(descriptor, F_GETFL)
    guard flags >= 0, fcntl(descriptor, F_SETFL, flags | O_NONBLOCK) == 0 else {
      throw DaemonError.system("making descriptor \(descriptor) non-blocking")
    }
  }
}
