import ArgumentParser
import JobletModel

/// `rnx version`
public struct Version: AsyncParsableCommand {
  public static let configuration = CommandConfiguration(abstract: "Prints the version of rnx.")
  @Flag(help: "Print JSON.") public var json = false

  public init() {}

  public func run() async throws {
    try await Terminal().print(json ? JSONOutput.text(["version": jobletVersion]) : "rnx \(jobletVersion)")
  }
}
