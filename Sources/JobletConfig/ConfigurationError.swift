/// Everything wrong with a configuration file, each problem with its line and key.
public struct ConfigurationError: Error, Sendable, Hashable, CustomStringConvertible {
  /// One thing that is wrong.
  public struct Problem: Sendable, Hashable, CustomStringConvertible {
    /// The line, from 1; nil where the problem has none (an environment variable, a missing file).
    public var line: Int?
    /// The key as a path: `persist.wal.fsync`. Empty for the whole file.
    public var key: String
    /// What is wrong and what is allowed.
    public var message: String

    public var description: String { key.isEmpty ? message : "\(key): \(message)" }
  }

  /// The file, or `environment`.
  public var file: String
  public var problems: [Problem]

  /// `FILE:LINE: KEY: MESSAGE`, one problem a line.
  public var description: String {
    problems.map { problem in
      problem.line.map { "\(file):\($0): \(problem)" } ?? "\(file): \(problem)"
    }.joined(separator: "\n")
  }
}
