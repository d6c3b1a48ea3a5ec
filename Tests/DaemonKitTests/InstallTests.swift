import Foundation
import Testing

private enum Installer {
  static let project = String(#filePath.dropLast("/Tests/DaemonKitTests/InstallTests.swift".count))

  static let canRun =
    !["/opt/", "/run/", "/usr/local/"].contains(where: project.hasPrefix)
    && shell("unshare -rm mount -t tmpfs none /opt").status == 0

  static func shell(_ script: String) -> (status: Int32, text: String) {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/bin/bash")
    process.arguments = ["-c", script]
    process.standardInput = FileHandle.nullDevice
    let pipe = Pipe()
    process.standardOutput = pipe
    process.standardError = pipe
    do { try process.run() } catch { return (127, "\(error)") }
    let text = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    return (process.terminationStatus, text)
  }
}

/// `contrib/install` in a mount namespace of its own, with programs and a systemd that only note what they are asked.
@Suite(.enabled(if: Installer.canRun, "it needs user namespaces"), .timeLimit(.minutes(2)))
struct InstallTests {
  private static let setUp = #"""
    set -e
    for folder in /opt /etc /usr/local /run; do mount -t tmpfs none $folder; done
    mkdir -p /run/systemd/system /etc/systemd/system /opt/built /opt/tools
    for name in joblet-api joblet-exec joblet-persist joblet-certs joblet-init; do printf '#!/bin/sh\n' >/opt/built/$name; done
    printf '#!/bin/sh\n[ "$1" != manual ] || echo page >$2/rnx.1\necho words\n' >/opt/built/rnx
    for name in systemctl systemd-sysusers systemd-tmpfiles; do
      printf '#!/bin/sh\ncase $1 in start|stop|restart) echo "$1 $2" >>/run/calls; test $1 = stop || test ! -e /run/fail;; esac\n' >/opt/tools/$name
    done
    printf '#!/bin/sh\ncase $1 in -fc) echo cgroup2fs;; *) exec /usr/bin/stat "$@";; esac\n' >/opt/tools/stat
    chmod 755 /opt/built/* /opt/tools/*
    export PATH=/opt/tools:$PATH JOBLET_JOBS_SIZE=0
    install() {
      : >/run/calls
      "$project/contrib/install" --bin /opt/built >/run/out 2>&1 && result=ok || result=failed
      echo "$1: $result $(tr '\n' ' ' </run/calls)"
    }

    """#

  private func run(_ script: String) -> [String] {
    let file = "/tmp/joblet-install-\(UUID().uuidString)"
    defer { unlink(file) }
    #expect(FileManager.default.createFile(atPath: file, contents: Data((InstallTests.setUp + script).utf8)))
    let output = Installer.shell("project='\(Installer.project)' unshare -rm bash \(file)")
    #expect(output.status == 0, "\(output.text)")
    return output.text.split(separator: "\n").map { $0.trimmingCharacters(in: .whitespaces) }
  }

  @Test func `services start anew for what is new to them, also when a run before had died`() {
    let lines = run(
      #"""
      install first
      install again
      echo '# new' >>/opt/built/joblet-api
      touch /run/fail; install dies; rm /run/fail
      install mended
      install again
      mkdir -p /etc/systemd/system/joblet-api.socket.d
      echo '[Socket]' >/etc/systemd/system/joblet-api.socket.d/10-joblet-config.conf
      touch /run/fail; install dies; rm /run/fail
      install mended
      install again
      """#)
    #expect(
      lines == [
        "first: ok stop joblet.service restart joblet.service", "again: ok start joblet.service",
        "dies: failed restart joblet.service", "mended: ok restart joblet.service", "again: ok start joblet.service",
        "dies: failed stop joblet.service restart joblet.service",
        "mended: ok stop joblet.service restart joblet.service", "again: ok start joblet.service",
      ])
  }

  @Test func `every unit is put in place, and goes again`() {
    let lines = run(
      #"""
      install here
      ls "$project/units" | grep -vE '[.](sysusers|tmpfiles)$' | sort >/run/ours
      ls /usr/local/lib/systemd/system | sort | cmp - /run/ours && echo same
      "$project/contrib/install" --uninstall >/run/out 2>&1 && echo gone
      ls /usr/local/lib/systemd/system | wc -l
      """#)
    #expect(lines == ["here: ok stop joblet.service restart joblet.service", "same", "gone", "0"])
  }

  @Test func `programs of another machine can be put below a folder, without man pages`() {
    let lines = run(
      #"""
      printf '#!/bin/sh\nexit 1\n' >/opt/built/rnx
      install here
      export DESTDIR=/run/there
      install there
      grep -c 'warning: .* does not run here' /run/out
      test -x /run/there/usr/local/bin/rnx && test ! -e /run/there/usr/local/share/man && echo "no man pages"
      """#)
    #expect(lines == ["here: failed", "there: ok", "1", "no man pages"])
  }
}
