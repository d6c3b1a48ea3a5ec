import ArgumentParser
import JobletModel

extension CompletionKind {
  /// IDs of jobs, the newest first, asked from the node.
  static var jobs: CompletionKind { .shellCommand("rnx job list --quiet 2>/dev/null") }

  static var statuses: CompletionKind { .list(JobStatus.allCases.map(\.rawValue)) }
}

/// `rnx completion`
public struct Completion: AsyncParsableCommand {
  public static let configuration = CommandConfiguration(
    abstract: "Prints a script that completes rnx's verbs, options and job IDs in a shell.",
    discussion: """
      contrib/install puts the scripts where the shells look for them. By hand:

        rnx completion bash >~/.local/share/bash-completion/completions/rnx
        rnx completion zsh >~/.zfunc/_rnx           # a folder of $fpath
        rnx completion fish >~/.config/fish/completions/rnx.fish
      """)

  @Argument(help: ArgumentHelp("bash, zsh or fish.", valueName: "shell"), completion: .list(Completion.shells))
  public var shell: String

  public init() {}

  static let shells = ["bash", "zsh", "fish"]

  public func validate() throws { _ = try known() }

  private func known() throws -> CompletionShell {
    switch shell {
    case "bash": return .bash
    case "zsh": return .zsh
    case "fish": return .fish
    default:
      throw ValidationError(
        "There is no completion for '\(shell.prefix(64))'; allowed is \(Completion.shells.joined(separator: ", ")).")
    }
  }

  public func run() async throws { try await Terminal().print(Rnx.completionScript(for: known())) }
}
