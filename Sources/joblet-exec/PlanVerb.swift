import ArgumentParser
import DaemonKit
import JobletConfig
import Worker

/// `joblet-exec plan`.
struct PlanVerb: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "plan",
    abstract: "Print what would be done for a job, step by step, without running anything.",
    discussion: """
      Each step with the document it rests on and what breaks if it moves. SPEC is a body of POST /v1/jobs; values of \
      secret_env are masked. It takes no right. Landlock's steps are those for this machine's kernel.
      """)

  @Option(help: ArgumentHelp(stringLiteral: DaemonOptions.configHelp + " Without any: the defaults."))
  var config: String?
  @Flag(help: "JSON instead of text.") var json = false
  @Argument(help: "File with the request as JSON, or - for the standard input.") var spec: String

  func run() throws {
    let document = try PlanDocument(
      spec: try CommandInput.read(spec, limit: PlanDocument.maxBytes),
      configuration: try CommandInput.configuration(config))
    print(json ? try document.json() : document.text)
  }
}
