import Glibc

/// Where `rnx` looks for its configuration.
public enum ConfigSearch {
  /// Never to loosen the rights of a file: what a user may not read is another one's identity.
  private static let advice =
    "ask for a client file of your role and put it at ~/.rnx/rnx-config.yml, or name one with --config"

  /// A larger file is refused unread.
  static let largestMebibytes = 4

  /// The places in their order; the first file there is counts.
  /// - Parameter home: `$HOME`; without one that place is skipped.
  public static func places(home: String?) -> [String] {
    var places = ["./rnx-config.yml", "./config/rnx-config.yml"]
    if let home, !home.isEmpty { places.append("\(home)/.rnx/rnx-config.yml") }
    return places + ["/etc/joblet/rnx-config.yml", "/opt/joblet/config/rnx-config.yml"]
  }

  /// Reads the configuration that is named, or the first one found.
  /// - Throws: ``Failure``; a file that is there and can't be read is an error, never skipped: another one would be another
  ///   identity. A directory that can't be entered holds no file for this user, and is skipped.
  public static func load(named: String?, home: String?) throws -> RnxConfig {
    if let named {
      guard let text = try read(named) else {
        throw Failure(
          "the configuration \(named) can't be read", why: "there is no such file, or its directory can't be entered",
          next: "name another with --config, or leave it out to search \(places(home: home).joined(separator: ", "))")
      }
      return try RnxConfig(text, path: named)
    }
    return try first(of: places(home: home))
  }

  package static func first(of places: [String]) throws -> RnxConfig {
    for place in places {
      if let text = try read(place) { return try RnxConfig(text, path: place) }
    }
    throw Failure(
      "no configuration was found", why: "looked for \(places.joined(separator: ", "))",
      next: advice)
  }

  /// A file's text; nil if there is none.
  private static func read(_ path: String) throws -> String? {
    func failure(_ why: String) -> Failure {
      Failure("the configuration \(path) can't be read", why: why, next: advice)
    }
    let file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard file >= 0 else {
      let error = errno
      var info = stat()
      // stat(2) needs leave for the directories only: where it is refused too, nobody knows whether there is a file.
      if error == ENOENT || error == ENOTDIR || error == EACCES && stat(path, &info) != 0 { return nil }
      throw failure(String(cString: strerror(error)))
    }
    defer { close(file) }
    return try TextFile.read(file, mebibytes: largestMebibytes, failure: failure)
  }
}
