import Glibc
import JobletConfig

/// What the units of an installed node need to know of its configuration.
///
/// Under socket activation the socket unit decides where a daemon listens. The units as shipped agree with the default
/// configuration; where a node's says otherwise a drop-in does too, and where it does not there is none.
public enum UnitDropIns {
  /// The file's name in `UNIT.d/`.
  static let fileName = "10-joblet-config.conf"

  /// Writes the drop-ins of a configuration below `directory` (`/etc/systemd/system`), and removes those that are not needed.
  /// systemd takes them at its next `daemon-reload` and restart of the sockets.
  /// - Returns: the files that were written or removed.
  /// - Throws: ``DaemonError`` naming the file.
  public static func write(_ configuration: Configuration, to directory: String) throws -> [String] {
    var changed: [String] = []
    for (unit, text) in texts(configuration).sorted(by: { $0.key < $1.key }) {
      let folder = "\(directory)/\(unit).d"
      let file = "\(folder)/\(fileName)"
      if let text {
        guard contents(of: file) != text else { continue }
        guard mkdir(folder, 0o755) == 0 || errno == EEXIST else { throw DaemonError.system("making '\(folder)'") }
        try replace(file, with: text)
      } else {
        guard unlink(file) == 0 else {
          if errno == ENOENT || errno == ENOTDIR { continue }
          throw DaemonError.system("removing '\(file)'")
        }
        _ = rmdir(folder)  // stays where the administrator has drop-ins of their own
      }
      changed.append(file)
    }
    return changed
  }

  /// The drop-in of each unit; nil where the unit as shipped is right.
  package static func texts(_ configuration: Configuration) -> [String: String?] {
    let shipped = Configuration()
    func socket(_ address: ListenAddress, _ usual: ListenAddress) -> String? {
      guard address != usual else { return nil }
      // An empty assignment takes back the unit's own address.
      return "\(heading)[Socket]\nListenStream=\nListenStream=\(streamText(address))\n"
    }
    func gateway(_ server: Configuration.Server) -> ListenAddress { .tcp(address: server.address, port: server.port) }
    func health(_ server: Configuration.Server) -> ListenAddress {
      .tcp(address: server.health.address, port: server.health.port)
    }
    var query = socket(.unix(configuration.persist.server.querySocket), .unix(shipped.persist.server.querySocket))
    let older = configuration.persist.server.grpcSocket
    if query != nil || older != shipped.persist.server.grpcSocket {
      query = query ?? "\(heading)[Socket]\n"
      query? += "Symlinks=\n"
      if older != configuration.persist.server.querySocket { query? += "Symlinks=\(escaped(older))\n" }
    }
    return [
      "joblet-api.socket": socket(gateway(configuration.server), gateway(shipped.server)),
      "joblet-health.socket": socket(health(configuration.server), health(shipped.server)),
      "joblet-persist.socket": socket(.unix(configuration.ipc.socket), .unix(shipped.ipc.socket)),
      "joblet-persist-query.socket": query,
      "joblet-exec.service": workspaceMount(configuration.filesystem, shipped.filesystem),
      "joblet-persist.service": persistPaths(configuration.persist.storage, shipped.persist.storage),
    ]
  }

  /// exec starts when the file system with the workspaces is mounted.
  private static func workspaceMount(
    _ files: Configuration.Filesystem, _ shipped: Configuration.Filesystem
  ) -> String? {
    guard files.baseDir != shipped.baseDir else { return nil }
    return "\(heading)[Unit]\nRequiresMountsFor=\(escaped(files.baseDir))\n"
  }

  /// persist sees the file system read-only but for what it keeps.
  private static func persistPaths(
    _ storage: Configuration.Persist.Storage, _ shipped: Configuration.Persist.Storage
  ) -> String? {
    let paths = [storage.local.logs.directory, storage.local.metrics.directory, "\(storage.baseDir)/persist"]
    guard paths != [shipped.local.logs.directory, shipped.local.metrics.directory, "\(shipped.baseDir)/persist"] else {
      return nil
    }
    return "\(heading)[Service]\nReadWritePaths=\nReadWritePaths=\(paths.map(escaped).joined(separator: " "))\n"
  }

  private static let heading = "# Written from the configuration by `joblet-api units`; changes here are lost.\n"

  private static func streamText(_ address: ListenAddress) -> String {
    switch address {
    case .unix(let path): escaped(path)
    case .tcp(let host, let port): host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
    }
  }

  /// `%` begins a specifier in a unit file.
  private static func escaped(_ path: String) -> String {
    String(path.flatMap { $0 == "%" ? "%%" : String($0) })
  }

  private static func contents(of file: String) -> String? {
    let descriptor = open(file, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return nil }
    defer { close(descriptor) }
    var buffer = [UInt8](repeating: 0, count: 16_384)
    let count = read(descriptor, &buffer, buffer.count)
    return count < 0 ? nil : String(decoding: buffer[..<count], as: UTF8.self)
  }

  /// Whole or not at all: systemd may read at any moment.
  private static func replace(_ file: String, with text: String) throws {
    let fresh = "\(file).new"
    let descriptor = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
    guard descriptor >= 0 else { throw DaemonError.system("writing '\(fresh)'") }
    let bytes = Array(text.utf8)
    let written = Glibc.write(descriptor, bytes, bytes.count)
    guard written == bytes.count, close(descriptor) == 0, rename(fresh, file) == 0 else {
      throw DaemonError.system("writing '\(file)'")
    }
  }
}
