import Glibc

/// A file of `NAME=VALUE` lines, as docker and systemd read them: blank lines and those that begin with `#` don't count,
/// the value is all that follows the first `=`, quotes and blanks included.
public enum EnvironmentFile {
  static let largestMebibytes = 1

  /// - Throws: ``Failure`` naming file and line; never the value, which may be a secret.
  public static func parse(_ text: String, file: String) throws -> [String: String] {
    var variables: [String: String] = [:]
    // By scalars: to Swift a CRLF is one character, and none that equals a newline.
    for (index, raw) in text.unicodeScalars.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
      let line = Substring(raw.last == "\r" ? raw.dropLast() : raw)
      if line.allSatisfy({ $0 == " " || $0 == "\t" }) || line.hasPrefix("#") { continue }
      guard let equals = line.firstIndex(of: "="), equals != line.startIndex else {
        throw Failure(
          "\(file) can't be used", why: "line \(index + 1) is not NAME=VALUE",
          next: "correct that line, or begin it with #")
      }
      // The name is not told: where the line is something else altogether, it is part of a secret.
      guard !line[..<equals].unicodeScalars.contains(where: \.properties.isWhitespace) else {
        throw Failure(
          "\(file) can't be used", why: "line \(index + 1) has a blank in the name; allowed is NAME=VALUE",
          next: line.hasPrefix("export ")
            ? "leave out 'export': the file is not run by a shell" : "correct that line, or begin it with #")
      }
      variables[String(line[..<equals])] = String(line[line.index(after: equals)...])
    }
    return variables
  }

  /// Reads a file; `-` is stdin.
  static func read(_ path: String) throws -> [String: String] {
    try parse(text(path, next: "name a file of NAME=VALUE lines"), file: path)
  }

  /// A file's text as one value, less one newline at its end; `-` is stdin.
  static func value(_ path: String) throws -> String {
    let text = try text(path, next: "name a file that holds the value and nothing else")
    return text.utf8.last == UInt8(ascii: "\n") ? String(text.unicodeScalars.dropLast()) : text
  }

  private static func text(_ path: String, next: String) throws -> String {
    func failure(_ why: String) -> Failure { Failure("\(path) can't be read", why: why, next: next) }
    let file = path == "-" ? dup(STDIN_FILENO) : open(path, O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { throw failure(String(cString: strerror(errno))) }
    defer { close(file) }
    return try TextFile.read(file, mebibytes: largestMebibytes, failure: failure)
  }
}
