import FoundationEssentials
import Glibc
import JobletConfig

/// Where a command's output goes: a descriptor, written in large pieces.
public final class CommandOutput {
  private let descriptor: CInt
  private var buffer: [UInt8] = []

  /// - Parameter descriptor: stays open.
  package init(_ descriptor: CInt = STDOUT_FILENO) { self.descriptor = descriptor }

  package func write(_ bytes: UnsafeRawBufferPointer) throws {
    buffer.append(contentsOf: bytes)
    if buffer.count >= 1 << 16 { try flush() }
  }

  package func line(_ text: String) throws {
    buffer.append(contentsOf: text.utf8)
    buffer.append(0x0A)
    if buffer.count >= 1 << 16 { try flush() }
  }

  /// One line of JSON, with names in snake_case.
  package func json(_ value: some Encodable) throws {
    let encoder = JSONEncoder()
    encoder.keyEncodingStrategy = .convertToSnakeCase
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    buffer.append(contentsOf: try encoder.encode(value))
    buffer.append(0x0A)
    if buffer.count >= 1 << 16 { try flush() }
  }

  /// A reader that went away ends the program by SIGPIPE, as with any other one.
  package func flush() throws {
    var done = 0
    while done < buffer.count {
      let count = buffer.withUnsafeBytes {
        Glibc.write(descriptor, $0.baseAddress.map { $0 + done }, buffer.count - done)
      }
      if count > 0 {
        done += count
      } else if errno != EINTR {
        throw PersistError.system(call: "write", path: "the output", errno: errno)
      }
    }
    buffer.removeAll(keepingCapacity: true)
  }
}

/// How the commands of joblet-persist end.
public enum CommandStatus: Int32, Sendable {
  case good = 0
  /// It was done, and something is not as it should be: a fault in a file, data that is missing.
  case fault = 1
  /// It could not be done.
  case failed = 2

  /// What `--help` says of them.
  public static let help =
    "Exit status: 0 if all is well, 1 if something is damaged or missing, 2 if it could not be done, 64 for wrong usage."
}

/// A command of joblet-persist: the configuration it works by, and what happens to its errors, which are told on stderr.
public enum StoreCommand {
  /// Runs a command that works on files, on a thread that may block.
  /// - Parameters:
  ///   - config: `--config`; nil as ``Configuration/load(path:environment:)`` has it.
  /// - Returns: the exit status.
  public static func run(
    _ name: String, config: String?,
    _ body: @escaping @Sendable (Configuration, CommandOutput) throws -> CommandStatus
  ) async -> Int32 {
    await report(name) {
      try await WorkerThread.run(name) {
        let output = CommandOutput()
        let outcome = Result { try body(try load(config), output) }
        try output.flush()  // what was found before an error is worth having
        return try outcome.get()
      }
    }
  }

  /// Runs a command that waits for others.
  public static func runWaiting(
    _ name: String, config: String?, _ body: @Sendable (Configuration, CommandOutput) async throws -> CommandStatus
  ) async -> Int32 {
    await report(name) {
      let configuration = try await WorkerThread.run(name) { try load(config) }
      let output = CommandOutput()
      let status = try await body(configuration, output)
      try output.flush()
      return status
    }
  }

  private static func report(_ name: String, _ body: () async throws -> CommandStatus) async -> Int32 {
    do {
      return try await body().rawValue
    } catch {
      complain(name, "\(error)")
      return CommandStatus.failed.rawValue
    }
  }

  private static func load(_ path: String?) throws -> Configuration {
    let configuration = try Configuration.load(path: path, environment: ProcessInfo.processInfo.environment)
    guard configuration.ipc.enabled else {
      throw PersistError.unsupported("ipc.enabled is false in \(configuration.origin.path): nothing is stored")
    }
    return configuration
  }

  /// A line on stderr.
  package static func complain(_ name: String, _ message: String) {
    do {
      let errors = CommandOutput(STDERR_FILENO)
      try errors.line("joblet-persist \(name): \(message)")
      try errors.flush()
    } catch {}  // there is nowhere else to say it
  }
}
