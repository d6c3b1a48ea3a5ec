import ArgumentParser
import FoundationEssentials
import HTTPClient
import JobletClient
import JobletModel

/// The options of every verb that talks to a node.
public struct ConnectionOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "The client configuration.",
      discussion:
        "Without it the first of these is taken: ./rnx-config.yml, ./config/rnx-config.yml, ~/.rnx/rnx-config.yml, /etc/joblet/rnx-config.yml, /opt/joblet/config/rnx-config.yml.",
      valueName: "file"), completion: .file(extensions: ["yml"]))
  public var config: String?

  @Option(help: ArgumentHelp("Which of the configuration's nodes to talk to.", valueName: "name"))
  public var node = "default"

  @Flag(help: "Print JSON, as the API gives it.")
  public var json = false

  public init() {}
}

extension ConnectionOptions {
  /// Does one thing to each of some jobs, one after the other, and prints what came of it: the answer with `--json`, else the ID.
  /// The first that fails ends it.
  /// - Parameters:
  ///   - done: what it could not be, for a failure: `stopped`.
  ///   - conflict: what to do where a job's state is in the way; nil to look at it.
  func each(
    _ jobs: [String], done: String, conflict: (JobID) -> String? = { _ in nil },
    _ act: (JobletClient, JobID) async throws -> some Encodable
  ) async throws {
    let connection = try Connection(self)
    let terminal = Terminal()
    for job in jobs {
      let id = try await connection.resolve(job)
      let answer = try await connection.call("the job \(id) can't be \(done)", conflict: conflict(id)) {
        try await act($0, id)
      }
      try await terminal.print(json ? JSONOutput.text(answer) : "\(id)")
    }
  }
}

/// A node, as a verb works with it.
struct Connection {
  let client: JobletClient
  let address: String
  let name: String

  init(_ options: ConnectionOptions) throws {
    let config = try ConfigSearch.load(named: options.config, home: ProcessInfo.processInfo.environment["HOME"])
    let node = try config.node(options.node)
    address = node.address
    name = options.node
    client = try JobletClient(
      Endpoint(address: node.address, certificatePEM: node.cert, keyPEM: node.key, authorityPEM: node.ca))
  }

  /// Runs a call; its errors come out in three parts.
  /// - Parameters:
  ///   - what: what could not be done, `the job can't be stopped`.
  ///   - conflict: what to do where the state of the job is in the way; nil to look at it.
  func call<T>(_ what: String, conflict: String? = nil, _ body: (JobletClient) async throws -> T) async throws -> T {
    do {
      return try await body(client)
    } catch let error as JobletError {
      throw Explain.failure(error, what: what, address: address, conflict: conflict)
    }
  }

  /// The job a user means: a whole ID, or the beginning of exactly one.
  func resolve(_ text: String) async throws -> JobID {
    try await call("the job '\(text)' can't be looked up") { try await JobLookup.resolve(text, in: $0) }
  }
}
