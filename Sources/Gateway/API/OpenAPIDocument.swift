// Made by openapi/embed from openapi/joblet.yaml, the contract; change that one.
// swift-format-ignore-file
/// The API's document as `GET /openapi.yaml` serves it.
public let openAPIDocument = #"""
openapi: 3.1.0
info:
  title: Joblet
  version: 0.1.0
  summary: Run jobs nobody trusts, isolated, and stream their output.
  description: |
    Every call is made over mutual TLS. The client certificate says who you are: its common name (CN) owns the jobs it
    posts, its organisational unit (OU) is your role: `reader` (or `viewer`), `developer`, `maintainer` or `admin`.

    ```
    curl --cert client.crt --key client.key --cacert ca.crt https://HOST:50051/v1/jobs
    ```

    - Bodies are JSON in `snake_case`. An unknown field or query parameter is refused by name, never ignored.
    - Errors are `application/problem+json` (RFC 9457) with a stable `type`, `urn:joblet:problem:<kind>`.
    - What a `type` can be: `GET /v1/problems`.
    - Every reply carries `X-Request-Id`, taken from the request if it is 1 to 128 characters of `A-Za-z0-9-_.:/+=`. A
      `traceparent` (W3C Trace Context) is carried on: into the job's record, the audit lines and the worker's log.
    - `POST /v1/jobs` with an `Idempotency-Key` can be repeated without fear: it starts one job, whatever breaks on the way.
    - `Prefer: wait=30` keeps a call waiting for the job's end, 60 seconds at most.
    - A record has an `ETag`, which is its `version`; with `If-None-Match` one that has not changed is a 304.
    - `Accept-Encoding: gzip` is heeded for bodies of 1 KiB and more and for streams, whose every batch can be read when it
      arrives.
    - Times are RFC 3339 in UTC. What is not known is absent.
    - A known path answers `OPTIONS` and a wrong method's 405 with `Allow`; `HEAD` is `GET` without a body. 429 and 503
      have a `Retry-After`, in seconds.
    - While the isolation worker restarts, jobs go on running; reads are answered from what is known, with
      `X-Joblet-Stale`, and changes are refused with 503 and `Retry-After`.
  license:
    name: MIT
    identifier: MIT
servers:
  - url: https://localhost:50051
security:
  - clientCertificate: []
tags:
  - name: jobs
    description: A job is a command with its limits; it runs once.
  - name: node
    description: The host, what it has, and how it stands.
  - name: document
    description: This document.
paths:
  /v1/jobs:
    post:
      operationId: runJob
      tags: [jobs]
      summary: Run a job
      description: |
        Needs the operation `jobs:run` (developer and above). The job may not have started yet when the reply comes, unless
        `Prefer: wait` asks for its end.

        With an `Idempotency-Key` the first request that is not refused starts the job, and for 24 hours every other one of
        the same caller with the same key and body gets that job's record as it is now, with `Idempotency-Replayed: true`. The
        same key with another body is a 422, and a 409 while the first is being answered (`Retry-After`) or when the job's
        record is no longer kept. Keys outlive restarts of every service, not of the host. At most 50,000 of a caller's and
        200,000 of all callers' are remembered; the oldest makes room for the next, but none that is younger than 15 minutes
        or whose job has not ended: without room for its key a request is refused with 429 and `Retry-After`.
      x-joblet-operation: jobs:run
      parameters:
        - {$ref: "#/components/parameters/IdempotencyKey"}
        - {$ref: "#/components/parameters/Prefer"}
      requestBody:
        required: true
        description: At most 2 MiB, or `server.max_body` where that is less.
        content:
          application/json:
            schema: {$ref: "#/components/schemas/JobRequest"}
            examples:
              small:
                summary: A command
                value: {"command": "echo", "args": ["hello"]}
              limited:
                summary: With limits, a secret and a time-out
                value:
                  {"command": "sh", "args": ["-c", "make test"], "env": {"CI": "1"}, "secret_env": {"TOKEN": "s3cr3t"}, "limits": {"cpu_percent": 50, "memory_mb": 64, "pids": 32}, "timeout": "30s", "name": "tests", "labels": {"branch": "main"}}
      responses:
        "201":
          description: The job is admitted.
          headers:
            Location: {description: The job's path., schema: {type: string}}
            ETag: {$ref: "#/components/headers/ETag"}
            Idempotency-Replayed:
              description: Present if an earlier request with the same key started this job.
              schema: {type: string, const: "true"}
            Preference-Applied: {$ref: "#/components/headers/PreferenceApplied"}
            X-Request-Id: {$ref: "#/components/headers/RequestId"}
          content:
            application/json:
              schema: {$ref: "#/components/schemas/JobRecord"}
              examples:
                admitted:
                  value:
                    {"args": ["hello"], "command": "echo", "created_at": "2026-11-21T20:15:55.123456789Z", "env": {}, "id": "019aa5f0-4e7b-7c31-9d2e-5f3a00000001", "labels": {}, "limits": {}, "node_id": "node-1", "owner": "alice", "secret_env": {}, "status": "INITIALIZING", "version": 1}
        "400": {$ref: "#/components/responses/Problem"}
        "401": {$ref: "#/components/responses/Problem"}
        "403": {$ref: "#/components/responses/Problem"}
        "406": {$ref: "#/components/responses/Problem"}
        "409": {$ref: "#/components/responses/RetryLater"}
        "413": {$ref: "#/components/responses/Problem"}
        "415": {$ref: "#/components/responses/Problem"}
        "422": {$ref: "#/components/responses/Problem"}
        "429": {$ref: "#/components/responses/RetryLater"}
        "503": {$ref: "#/components/responses/RetryLater"}
    get:
      operationId: listJobs
      tags: [jobs]
      summary: List jobs, newest first
      description: |
        Every condition holds at once. The work for one page is bounded: a search for something rare may give a page with
        fewer jobs than `limit`, even none, and a `next_cursor` that goes on.
      x-joblet-operation: jobs:read
      parameters:
        - name: status
          in: query
          description: Only jobs in one of these states, with commas between; letters of either case.
          style: form
          explode: false
          schema:
            type: array
            minItems: 1
            items: {$ref: "#/components/schemas/JobStatus"}
          examples:
            two: {value: [RUNNING, FAILED]}
        - name: since
          in: query
          description: Only jobs created at that time or later.
          schema: {$ref: "#/components/schemas/TimeText"}
        - name: until
          in: query
          description: Only jobs created at that time or earlier.
          schema: {$ref: "#/components/schemas/TimeText"}
        - name: q
          in: query
          description: |
            Only jobs that have this text somewhere in their ID, name, owner, labels (`key=value`) or command line (the
            command and its arguments with spaces between), of which the first 4096 bytes together are looked at. ASCII
            letters of either case are alike. At most 256 bytes.
          schema: {type: string, minLength: 1, maxLength: 256}
        - name: limit
          in: query
          description: How many at most.
          schema: {type: integer, minimum: 1, maximum: 1000, default: 100}
        - name: cursor
          in: query
          description: The `next_cursor` of the page before.
          schema: {type: string}
      responses:
        "200":
          description: A page.
          headers:
            X-Request-Id: {$ref: "#/components/headers/RequestId"}
            X-Joblet-Stale: {$ref: "#/components/headers/Stale"}
          content:
            application/json:
              schema: {$ref: "#/components/schemas/JobList"}
              examples:
                page:
                  value:
                    {"jobs": [{"args": [], "command": "true", "created_at": "2026-11-21T20:15:55Z", "ended_at": "2026-11-21T20:15:55.5Z", "env": {}, "exit_code": 0, "id": "019aa5f0-4e7b-7c31-9d2e-5f3a00000001", "labels": {}, "last_seq": 0, "limits": {}, "node_id": "node-1", "owner": "alice", "secret_env": {"TOKEN": "***"}, "started_at": "2026-11-21T20:15:55.1Z", "status": "COMPLETED", "usage": {"cpu_usec": 900, "memory_peak_bytes": 262144}, "version": 4}], "next_cursor": "AZql8E57fDGdLl86AAAAAQ"}
        "400": {$ref: "#/components/responses/Problem"}
        "401": {$ref: "#/components/responses/Problem"}
        "403": {$ref: "#/components/responses/Problem"}
        "406": {$ref: "#/components/responses/Problem"}
        "422": {$ref: "#/components/responses/Problem"}
        "503": {$ref: "#/components/responses/RetryLater"}
    delete:
      operationId: deleteJobs
      tags: [jobs]
      summary: Delete ended jobs and their data
      description: |
        Deletes every job that has ended and meets all conditions; without one, every job that has ended. Jobs that have not
        ended stay. The work of one call is bounded: where `more` is true, the same call goes on. A job that can't be deleted
        does not keep the others: the answer is then its problem, whose `detail` names it and says how many were deleted.
      x-joblet-operation: jobs:delete-all
      parameters:
        - name: status
          in: query
          description: Only jobs in one of these states, with commas between; letters of either case.
          style: form
          explode: false
          schema:
            type: array
            minItems: 1
            items: {type: string, enum: [COMPLETED, FAILED, STOPPED, CANCELED]}
        - name: since
          in: query
          description: Only jobs created at that time or later.
          schema: {$ref: "#/components/schemas/TimeText"}
        - name: until
          in: query
          description: Only jobs created at that time or earlier.
          schema: {$ref: "#/components/schemas/TimeText"}
        - name: q
          in: query
          description: As for the listing.
          schema: {type: string, minLength: 1, maxLength: 256}
      responses:
        "200":
          description: They are gone and stay gone.
          headers:
            X-Request-Id: {$ref: "#/components/headers/RequestId"}
          content:
            application/json:
              schema: {$ref: "#/components/schemas/JobsDeleted"}
              examples:
                all: {value: {"deleted": 12, "more": false}}
        "400": {$ref: "#/components/responses/Problem"}
        "401": {$ref: "#/components/responses/Problem"}
        "403": {$ref: "#/components/responses/Problem"}
        "406": {$ref: "#/components/responses/Problem"}
        "409": {$ref: "#/components/responses/Problem"}
        "422": {$ref: "#/components/responses/Problem"}
        "503": {$ref: "#/components/responses/RetryLater"}
  /v1/jobs/{id}:
    parameters:
      - {$ref: "#/components/parameters/JobId"}
    get:
      operationId: getJob
      tags: [jobs]
      summary: A job's record
      description: With `Prefer` the reply comes when the job has ended, or the wait is over.
      x-joblet-operation: jobs:read
      parameters:
        - {$ref: "#/components/parameters/Prefer"}
        - {$ref: "#/components/parameters/IfNoneMatch"}
      responses:
        "200":
          description: The record.
          headers:
            ETag: {$ref: "#/components/headers/ETag"}
            Preference-Applied: {$ref: "#/components/headers/PreferenceApplied"}
            X-Request-Id: {$ref: "#/components/headers/RequestId"}
            X-Joblet-Stale: {$ref: "#/components/headers/Stale"}
          content:
            application/json:
              schema: {$ref: "#/components/schemas/JobRecord"}
              examples:
                failed:
                  value:
                    {"args": ["-c", "exit 3"], "command": "sh", "created_at": "2026-11-21T20:15:55Z", "ended_at": "2026-11-21T20:15:56Z", "env": {}, "exit_code": 3, "id": "019aa5f0-4e7b-7c31-9d2e-5f3a00000001", "labels": {}, "last_seq": 17, "limits": {"memory_mb": 64}, "message": "exited with code 3", "node_id": "node-1", "owner": "alice", "reason": "exit_code", "secret_env": {}, "started_at": "2026-11-21T20:15:55.1Z", "status": "FAILED", "timeout": "30s", "version": 4}
        "304":
          description: It is still the one that `If-None-Match` names.
          headers:
            ETag: {$ref: "#/components/headers/ETag"}
            X-Request-Id: {$ref: "#/components/headers/RequestId"}
        "400": {$ref: "#/components/responses/Problem"}
        "401": {$ref: "#/components/responses/Problem"}
        "403": {$ref: "#/components/responses/Problem"}
        "404": {$ref: "#/components/responses/Problem"}
        "406": {$ref: "#/components/responses/Problem"}
        "422": {$ref: "#/components/responses/Problem"}
        "503": {$ref: "#/components/responses/RetryLater"}
    delete:
      operationId: deleteJob
      tags: [jobs]
      summary: Delete an ended job and its data
      x-joblet-operation: jobs:delete
      responses:
        "204":
          description: It is gone and stays gone.
          headers:
            X-Request-Id: {$ref: "#/components/headers/RequestId"}
        "400": {$ref: "#/components/responses/Problem"}
        "401": {$ref: "#/components/responses/Problem"}
        "403": {$ref: "#/components/responses/Problem"}
        "404": {$ref: "#/components/responses/Problem"}
        "409": {$ref: "#/components/responses/Problem"}
        "422": {$ref: "#/components/responses/Problem"}
        "503": {$ref: "#/components/responses/RetryLater"}
  /v1/jobs/{id}/stop:
    parameters:
      - {$ref: "#/components/parameters/JobId"}
    post:
      operationId: stopJob
      tags: [jobs]
      summary: Stop a running job
      description: SIGTERM first; what still runs after the grace is killed with its cgroup.
      x-joblet-operation: jobs:stop
      requestBody:
        required: false
        content:
          application/json:
            schema: {$ref: "#/components/schemas/StopOptions"}
            examples:
              quick: {value: {"grace": "500ms"}}
      responses:
        "202":
          description: It is being stopped.
          headers:
            X-Request-Id: {$ref: "#/components/headers/RequestId"}
          content:
            application/json:
              schema: {$ref: "#/components/schemas/JobRecord"}
        "400": {$ref: "#/components/responses/Problem"}
        "401": {$ref: "#/components/responses/Problem"}
        "403": {$ref: "#/components/responses/Problem"}
        "404": {$ref: "#/components/responses/Problem"}
        "406": {$ref: "#/components/responses/Problem"}
        "409": {$ref: "#/components/responses/Problem"}
        "413": {$ref: "#/components/responses/Problem"}
        "415": {$ref: "#/components/responses/Problem"}
        "422": {$ref: "#/components/responses/Problem"}
        "503": {$ref: "#/components/responses/RetryLater"}
  /v1/jobs/{id}/pause:
    parameters:
      - {$ref: "#/components/parameters/JobId"}
    post:
      operationId: pauseJob
      tags: [jobs]
      summary: Pause a running job
      description: |
        Freezes every process of the job where it stands, and answers when they all do: the job uses no CPU time any more and
        keeps its memory. Its time-out goes on meanwhile, and a paused job can be stopped. A job that is paused already stays so; one
        that has not started or has ended is a 409; one that can't be frozen now, for a process of it waits in the kernel, is a 503
        and goes on.
      x-joblet-operation: jobs:pause
      responses:
        "200":
          description: It stands still.
          headers:
            X-Request-Id: {$ref: "#/components/headers/RequestId"}
          content:
            application/json:
              schema: {$ref: "#/components/schemas/JobRecord"}
        "400": {$ref: "#/components/responses/Problem"}
        "401": {$ref: "#/components/responses/Problem"}
        "403": {$ref: "#/components/responses/Problem"}
        "404": {$ref: "#/components/responses/Problem"}
        "406": {$ref: "#/components/responses/Problem"}
        "409": {$ref: "#/components/responses/Problem"}
        "413": {$ref: "#/components/responses/Problem"}
        "503": {$ref: "#/components/responses/RetryLater"}
  /v1/jobs/{id}/resume:
    parameters:
      - {$ref: "#/components/parameters/JobId"}
    post:
      operationId: resumeJob
      tags: [jobs]
      summary: Let a paused job go on
      description: |
        A job that is not paused just goes on; one that has not started or has ended is a 409.
      x-joblet-operation: jobs:resume
      responses:
        "200":
          description: It runs.
          headers:
            X-Request-Id: {$ref: "#/components/headers/RequestId"}
          content:
            application/json:
              schema: {$ref: "#/components/schemas/JobRecord"}
        "400": {$ref: "#/components/responses/Problem"}
        "401": {$ref: "#/components/responses/Problem"}
        "403": {$ref: "#/components/responses/Problem"}
        "404": {$ref: "#/components/responses/Problem"}
        "406": {$ref: "#/components/responses/Problem"}
        "409": {$ref: "#/components/responses/Problem"}
        "413": {$ref: "#/components/responses/Problem"}
        "503": {$ref: "#/components/responses/RetryLater"}
  /v1/jobs/{id}/logs:
    parameters:
      - {$ref: "#/components/parameters/JobId"}
    get:
      operationId: getJobLogs
      tags: [jobs]
      summary: A job's output, stored and live
      description: |
        What comes is chosen by `Accept`; `text/plain` is the default.

        - `text/plain`: the job's own bytes. Where lines are lost for good, a line `[joblet: lines 5 to 9 of the output are
          missing]` says so.
        - `application/x-ndjson`: one `LogLine` a line. Lost lines are `{"gap":{"from":5,"to":9}}`; a followed log ends with
          `{"end":{…}}`, a `JobEnd`.
        - `text/event-stream`: events `log` (data: a `LogLine`; `id`: its `seq`), `gap` (data: `Gap`), `end` (data: `JobEnd`;
          exactly one, the last), `reconnect` (the gateway is stopping: connect again, nothing is lost) and `problem` (data:
          `Problem`; the stream breaks off here, and why). A comment every 15 seconds; `retry:` once. Resume with the header `Last-Event-ID`, which browsers send by themselves, or `?after=`.

        Without `follow` the reply ends with what there is now; `end` comes if that is the job's end too, and not if `limit` cut
        the reply short. With `follow=true` it stays until the job has ended and all its output was sent: it can be opened
        before the job starts, while it is silent, and after it has ended. A client that reads slowly loses nothing. A job that
        is deleted while it is read ends with a `gap` of the lines that are gone, then `end`.

        On a node that stores nothing (`ipc.enabled: false`) there is only what the job's ring still holds: lines before that are
        a `gap`, in plain text the line above; an ended job's log is one `gap` and its `end`. `regex`, `order=desc` and `offset`
        are refused there.

        A body that ends without its HTTP end (the last chunk, END_STREAM) is not whole: ask again with `after`.
      x-joblet-operation: jobs:read
      parameters:
        - name: follow
          in: query
          description: Stay until the job has ended.
          schema: {type: boolean, default: false}
        - name: stream
          in: query
          schema: {type: string, enum: [stdout, stderr]}
        - name: after
          in: query
          description: Only lines after this `seq`.
          schema: {type: integer, minimum: 0, default: 0}
        - {$ref: "#/components/parameters/Since"}
        - {$ref: "#/components/parameters/Until"}
        - name: filter
          in: query
          description: Only lines that contain this text.
          schema: {type: string, minLength: 1, maxLength: 4096}
        - name: regex
          in: query
          description: |
            Only lines in which this regular expression matches somewhere, in PCRE2's syntax. With `filter` both must hold. The
            store does the matching, so a followed line comes when it is stored.
          schema: {type: string, minLength: 1, maxLength: 4096}
        - {$ref: "#/components/parameters/Order"}
        - name: tail
          in: query
          description: Only the last so many lines, counted after every other condition; with `follow`, then the new ones.
          schema: {type: integer, minimum: 0, maximum: 100000}
        - {$ref: "#/components/parameters/Limit"}
        - {$ref: "#/components/parameters/Offset"}
        - {$ref: "#/components/parameters/LastEventId"}
      responses:
        "200":
          description: The output.
          headers:
            X-Request-Id: {$ref: "#/components/headers/RequestId"}
          content:
            text/plain:
              schema: {type: string}
            application/x-ndjson:
              schema: {type: string}
              x-joblet-line: {$ref: "#/components/schemas/LogLine"}
              examples:
                lines:
                  value: |
                    {"seq":17,"ts":"2026-11-21T20:15:55.123456789Z","stream":"stdout","line":"17 tests passed"}
                    {"seq":18,"ts":"2026-11-21T20:15:55.523456789Z","stream":"stderr","partial":true,"line":"Password: "}
                    {"seq":19,"ts":"2026-11-21T20:15:56.123456789Z","stream":"stdout","b64":"//79"}
            text/event-stream:
              x-joblet-events:
                log: {$ref: "#/components/schemas/LogLine"}
                gap: {$ref: "#/components/schemas/Gap"}
                end: {$ref: "#/components/schemas/JobEnd"}
                problem: {$ref: "#/components/schemas/Problem"}
              examples:
                followed:
                  value: |+
                    retry: 2000

                    event: log
                    id: 17
                    data: {"seq":17,"ts":"2026-11-21T20:15:55.123456789Z","stream":"stdout","line":"17 tests passed"}

                    event: gap
                    data: {"from":18,"to":20}

                    event: end
                    data: {"ended_at":"2026-11-21T20:15:56.000000000Z","exit_code":3,"reason":"exit_code","status":"FAILED"}

        "400": {$ref: "#/components/responses/Problem"}
        "401": {$ref: "#/components/responses/Problem"}
        "403": {$ref: "#/components/responses/Problem"}
        "404": {$ref: "#/components/responses/Problem"}
        "406": {$ref: "#/components/responses/Problem"}
        "422": {$ref: "#/components/responses/Problem"}
        "503": {$ref: "#/components/responses/RetryLater"}
  /v1/jobs/{id}/metrics:
    parameters:
      - {$ref: "#/components/parameters/JobId"}
    get:
      operationId: getJobMetrics
      tags: [jobs]
      summary: What a job used, stored and live
      description: |
        A job is measured every `metrics.interval` of the node's configuration and once at its end. What comes is chosen by
        `Accept`; `text/plain` is the default.

        - `text/plain`: a table with a header, a row a sample, in units for people. Samples that are lost for good are a line
          `[joblet: samples 5 to 9 of the metrics are missing]`.
        - `application/x-ndjson`: one `MetricSample` a line, as it is stored. Lost samples are `{"gap":{"from":5,"to":9}}`; followed
          metrics end with `{"end":{…}}`, a `JobEnd`.
        - `text/event-stream`: events `metrics` (data: a `MetricSample`; `id`: its `seq`), `gap`, `end`, `reconnect` and `problem`, comments
          and `retry:` as for logs. Resume with `Last-Event-ID` or `?after=`.

        With `aggregate` each line is a `MetricsOverTime`, without `interval` one over all; such events have no `id`.

        Without `follow` the reply ends with what there is now; `end` comes if the job has ended, and not if `limit` cut the
        reply short. On a node that stores nothing (`ipc.enabled: false`) there are only a running job's newest samples, what was
        before them is a `gap`, and `aggregate`, `order=desc` and `offset` are refused.
      x-joblet-operation: jobs:read
      parameters:
        - name: follow
          in: query
          description: Stay until the job has ended. Not with `aggregate`.
          schema: {type: boolean, default: false}
        - name: after
          in: query
          description: Only samples after this `seq`.
          schema: {type: integer, minimum: 0, default: 0}
        - {$ref: "#/components/parameters/Since"}
        - {$ref: "#/components/parameters/Until"}
        - {$ref: "#/components/parameters/Limit"}
        - {$ref: "#/components/parameters/Offset"}
        - {$ref: "#/components/parameters/Order"}
        - name: aggregate
          in: query
          description: |
            How the samples of an interval become one: their average, least, greatest, sum, or the least value that 95 percent of
            them do not exceed.
          schema: {type: string, enum: [avg, min, max, sum, p95]}
        - name: interval
          in: query
          description: |
            With `aggregate`: a line for every interval of this length that has samples, `1s` to `365d`, beginning at whole
            multiples of it in Unix time.
          schema: {type: string, pattern: "^[0-9]+(ms|s|m|h|d)$"}
        - {$ref: "#/components/parameters/LastEventId"}
      responses:
        "200":
          description: The samples.
          headers:
            X-Request-Id: {$ref: "#/components/headers/RequestId"}
          content:
            text/plain:
              schema: {type: string}
            application/x-ndjson:
              schema: {type: string}
              x-joblet-line: {$ref: "#/components/schemas/MetricSample"}
              examples:
                samples:
                  value: |
                    {"seq":1,"ts":"2026-11-21T20:15:55.123456789Z","cpu_percent":98.7,"cpu_usec":987654,"memory_bytes":7340032,"memory_peak_bytes":8388608,"io_read_bytes":4096,"io_write_bytes":0,"io_read_ops":1,"io_write_ops":0,"net_rx_bytes":0,"net_tx_bytes":0,"pids":2,"psi_cpu":0.5,"psi_memory":0.0,"psi_io":0.0}
                    {"seq":2,"ts":"2026-11-21T20:16:00.123456789Z","cpu_percent":12.0,"cpu_usec":1587654,"memory_bytes":7340032,"pids":2}
                over-time:
                  summary: "?aggregate=avg&interval=1m"
                  value: |
                    {"ts":"2026-11-21T20:15:00.000000000Z","aggregate":"avg","samples":12,"cpu_percent":55.35,"memory_bytes":7340032}
            text/event-stream:
              x-joblet-events:
                metrics: {$ref: "#/components/schemas/MetricSample"}
                gap: {$ref: "#/components/schemas/Gap"}
                end: {$ref: "#/components/schemas/JobEnd"}
                problem: {$ref: "#/components/schemas/Problem"}
              examples:
                followed:
                  value: |+
                    retry: 2000

                    event: metrics
                    id: 2
                    data: {"seq":2,"ts":"2026-11-21T20:16:00.123456789Z","cpu_percent":12.0,"cpu_usec":1587654,"memory_bytes":7340032,"pids":2}

                    event: end
                    data: {"ended_at":"2026-11-21T20:16:01.000000000Z","exit_code":0,"status":"COMPLETED"}

        "400": {$ref: "#/components/responses/Problem"}
        "401": {$ref: "#/components/responses/Problem"}
        "403": {$ref: "#/components/responses/Problem"}
        "404": {$ref: "#/components/responses/Problem"}
        "406": {$ref: "#/components/responses/Problem"}
        "422": {$ref: "#/components/responses/Problem"}
        "503": {$ref: "#/components/responses/RetryLater"}
  /v1/events:
    get:
      operationId: followEvents
      tags: [jobs]
      summary: Changes of all jobs, as they happen
      description: |
        Needs the operation `jobs:read`. Never ends by itself. Each change is an event `job` with the job's record as it is
        then; states that a job passes through faster than they can be told are left out, and `version` says so. A job
        that is deleted is an event `deleted` with its `id`. All filters hold at once, against the record as it is sent.

        Resume with the `Last-Event-ID` of the last event: what changed since is sent, each job once. Where the gateway
        can't know all of it any more (it was restarted, or the client was away for long), it sends every job that has not ended
        and those that have ended since; if even that may leave something out, a `gap` says since when, and `GET /v1/jobs`
        has the rest. Jobs deleted meanwhile are not told of then. A job that the worker has forgotten is told of as it is stored;
        if it is not stored, a `gap` says that whoever follows it has to look.
      x-joblet-operation: jobs:read
      parameters:
        - name: status
          in: query
          description: Only jobs in one of these states, with commas between.
          schema: {type: string}
          example: COMPLETED,FAILED
        - name: owner
          in: query
          description: Only jobs posted by this common name.
          schema: {type: string, minLength: 1, maxLength: 256}
        - name: name
          in: query
          description: Only jobs of this name.
          schema: {type: string, minLength: 1, maxLength: 128}
        - name: label
          in: query
          description: Only jobs with these labels, `key=value` or `key` for any value, with commas between; they must have all of them.
          schema: {type: string, minLength: 1, maxLength: 1024}
          example: branch=main
        - name: job
          in: query
          description: Only these jobs, by ID, with commas between; at most 100.
          schema: {type: string, maxLength: 4096}
        - name: snapshot
          in: query
          description: |
            Begin with the jobs there are: all that have not ended, and the newest 1,000 that have; then an event `synced`,
            then what changes. Without it, and without `Last-Event-ID`, an event `synced` with `jobs: 0` comes at once, whose `id` is the place to
            go on from, and then only what changes from now on.
          schema: {type: boolean, default: false}
        - name: Last-Event-ID
          in: header
          description: The `id` of the last event a client has.
          schema: {type: string, maxLength: 64}
      responses:
        "200":
          description: |
            Events: `job`, `deleted`, `synced` (all there was is told; what follows are changes), `gap`, `problem`, `reconnect` (the gateway is about to stop).
            `id` is on `job`, `deleted` and `synced`, but on no `job` of a snapshot: until it is complete there is nothing to go on from.
            A comment comes after 15 s of silence.
          headers:
            X-Request-Id: {$ref: "#/components/headers/RequestId"}
          content:
            text/event-stream:
              x-joblet-events:
                job: {$ref: "#/components/schemas/JobRecord"}
                deleted: {$ref: "#/components/schemas/JobDeleted"}
                synced: {$ref: "#/components/schemas/EventsSynced"}
                gap: {$ref: "#/components/schemas/EventsGap"}
                problem: {$ref: "#/components/schemas/Problem"}
              examples:
                snapshot:
                  summary: "?snapshot=true"
                  value: |+
                    retry: 2000

                    event: job
                    data: {"args":["hello"],"command":"echo","created_at":"2026-11-21T20:15:55.120000000Z","env":{},"id":"019aa5f0-4e7b-7c31-9d2e-5f3a00000001","labels":{},"limits":{},"node_id":"node-1","owner":"ci","secret_env":{},"started_at":"2026-11-21T20:15:55.123000000Z","status":"RUNNING","version":2}

                    event: synced
                    id: 5f3a00c1-17-1795296955123456789
                    data: {"jobs":1}

                    event: deleted
                    id: 5f3a00c1-19-1795297000000000000
                    data: {"id":"019aa5f0-4e7b-7c31-9d2e-5f3a00000001"}

            application/x-ndjson:
              schema:
                type: string
                description: "Each event's data on a line of its own, in an object named like the event: `{\"job\":{…}}`."
              examples:
                change:
                  value: |
                    {"job":{"args":["hello"],"command":"echo","created_at":"2026-11-21T20:15:55.120000000Z","env":{},"id":"019aa5f0-4e7b-7c31-9d2e-5f3a00000001","labels":{},"limits":{},"node_id":"node-1","owner":"ci","secret_env":{},"status":"QUEUED","version":1}}
        "400": {$ref: "#/components/responses/Problem"}
        "401": {$ref: "#/components/responses/Problem"}
        "403": {$ref: "#/components/responses/Problem"}
        "406": {$ref: "#/components/responses/Problem"}
        "422": {$ref: "#/components/responses/Problem"}
        "503": {$ref: "#/components/responses/RetryLater"}
  /v1/node:
    get:
      operationId: getNode
      tags: [node]
      summary: How the node stands
      description: |
        Needs the operation `node:read`. Host, CPU, memory, disks, network, load, pressure, capacity and use, versions,
        certificates. Counters count from the boot (`jobs.cpu_usec`: from when the jobs' cgroup was made). While the worker
        is away the reply has what is known without it, and `X-Joblet-Stale`.
      x-joblet-operation: node:read
      parameters:
        - name: stream
          in: query
          description: Send it again and again as events `node`, which `Accept` text/event-stream asks for too. `?stream` alone means true.
          allowEmptyValue: true
          schema: {type: string, enum: ["", "true", "false", "1", "0"]}
        - name: interval
          in: query
          description: Time between two events, `1s` to `1h`; only with a stream.
          schema: {type: string, default: 5s, pattern: "^[0-9]+(ms|s|m|h)$"}
      responses:
        "200":
          description: The node.
          headers:
            X-Request-Id: {$ref: "#/components/headers/RequestId"}
            X-Joblet-Stale: {$ref: "#/components/headers/Stale"}
          content:
            application/json:
              schema: {$ref: "#/components/schemas/NodeStatus"}
              examples:
                node:
                  value:
                    {"address": "192.0.2.10:50051", "certificates": [{"days_left": 354, "name": "server", "not_after": "2027-11-11T20:00:00.000000000Z", "state": "valid", "subject": "CN=node-1"}], "cpu": {"busy_usec": 982000000, "count": 2, "idle_usec": 9120000000, "iowait_usec": 4100000, "model": "AMD EPYC 7571", "steal_usec": 0, "used_percent": 37.5}, "disks": [{"available_bytes": 31138512896, "device": "8:0", "holds": ["workspaces", "logs"], "inodes": 3276800, "inodes_available": 3100000, "path": "/opt/joblet/jobs", "read_bytes": 182739456, "read_ops": 4410, "total_bytes": 52521566208, "busy_usec": 5120000, "write_bytes": 926941184, "write_ops": 20113}], "gateway": {"connections": 3, "streams": 1}, "host": {"architecture": "x86_64", "booted_at": "2026-11-20T07:00:00.000000000Z", "hostname": "node-1", "kernel": "6.1.0-28-amd64", "os": "Debian GNU/Linux 12 (bookworm)"}, "jobs": {"by_status": {"COMPLETED": 12, "RUNNING": 2}, "cpu_usec": 64000000, "max_queued": 10000, "max_running": 4096, "memory_bytes": 73400320, "memory_limit_bytes": 7516192768, "pids": 9, "pids_limit": 16384, "queued": 0, "running": 2}, "load": {"fifteen_minutes": 0.21, "five_minutes": 0.3, "one_minute": 0.42}, "memory": {"available_bytes": 6912212992, "cached_bytes": 2147483648, "free_bytes": 4294967296, "swap_free_bytes": 0, "swap_total_bytes": 0, "total_bytes": 8331722752}, "network": [{"name": "eth0", "rx_bytes": 73400320, "rx_dropped": 0, "rx_errors": 0, "rx_packets": 91002, "tx_bytes": 9400320, "tx_dropped": 0, "tx_errors": 0, "tx_packets": 60113}], "node_id": "node-1", "pressure": {"cpu": {"some_avg10": 0.35, "some_avg60": 0.1, "some_total_usec": 4410000}, "io": {"full_avg10": 0.0, "full_avg60": 0.0, "full_total_usec": 91000, "some_avg10": 0.0, "some_avg60": 0.0, "some_total_usec": 120000}, "memory": {"full_avg10": 0.0, "full_avg60": 0.0, "full_total_usec": 0, "some_avg10": 0.0, "some_avg60": 0.0, "some_total_usec": 0}}, "ready": true, "services": {"exec": {"connected": true}, "persist": {"accepts_jobs": true, "backend": "local", "connected": true, "free_bytes": 31138512896, "oldest": "2026-11-20T07:10:00.000000000Z"}}, "time": "2026-11-21T20:15:55.123456789Z", "versions": {"api": "0.1.0", "exec": "0.1.0", "persist": "0.1.0"}}
            text/event-stream:
              x-joblet-events:
                node: {$ref: "#/components/schemas/NodeStatus"}
                problem: {$ref: "#/components/schemas/Problem"}
              examples:
                stream:
                  summary: "?stream&interval=2s"
                  value: |+
                    retry: 2000

                    event: node
                    data: {"node_id":"node-1","ready":false,"reasons":["joblet-exec is away"],"services":{"exec":{"connected":false}},"time":"2026-11-21T20:15:55.123456789Z","versions":{"api":"0.1.0"}}

        "400": {$ref: "#/components/responses/Problem"}
        "401": {$ref: "#/components/responses/Problem"}
        "403": {$ref: "#/components/responses/Problem"}
        "406": {$ref: "#/components/responses/Problem"}
        "422": {$ref: "#/components/responses/Problem"}
        "503": {$ref: "#/components/responses/RetryLater"}
  /v1/nodes:
    get:
      operationId: listNodes
      tags: [node]
      summary: The nodes this one knows
      description: Needs the operation `node:read`. A node alone knows itself.
      x-joblet-operation: node:read
      responses:
        "200":
          description: A line a node.
          headers:
            X-Request-Id: {$ref: "#/components/headers/RequestId"}
          content:
            application/json:
              schema: {$ref: "#/components/schemas/NodeList"}
              examples:
                one:
                  value:
                    {"nodes": [{"address": "192.0.2.10:50051", "cpus": 2, "hostname": "node-1", "load": 0.42, "max_running": 4096, "memory_available_bytes": 6912212992, "memory_bytes": 8331722752, "node_id": "node-1", "queued": 0, "ready": true, "running": 2, "seen_at": "2026-11-21T20:15:55.123456789Z", "version": "0.1.0"}]}
        "400": {$ref: "#/components/responses/Problem"}
        "401": {$ref: "#/components/responses/Problem"}
        "403": {$ref: "#/components/responses/Problem"}
        "406": {$ref: "#/components/responses/Problem"}
        "422": {$ref: "#/components/responses/Problem"}
        "503": {$ref: "#/components/responses/RetryLater"}
  /v1/problems:
    get:
      operationId: listProblems
      tags: [document]
      summary: What the `type` of an error can be
      x-joblet-operation: node:read
      responses:
        "200":
          description: Every type, with its title and status.
          headers:
            X-Request-Id: {$ref: "#/components/headers/RequestId"}
          content:
            application/json:
              schema: {$ref: "#/components/schemas/ProblemTypes"}
              examples:
                some:
                  value: {"problems": [{"status": 404, "title": "There is no such thing", "type": "urn:joblet:problem:not-found"}]}
        "400": {$ref: "#/components/responses/Problem"}
        "401": {$ref: "#/components/responses/Problem"}
        "403": {$ref: "#/components/responses/Problem"}
        "406": {$ref: "#/components/responses/Problem"}
        "422": {$ref: "#/components/responses/Problem"}
  /openapi.yaml:
    get:
      operationId: getDocument
      tags: [document]
      summary: This document
      x-joblet-operation: node:read
      responses:
        "200":
          description: The document.
          headers:
            X-Request-Id: {$ref: "#/components/headers/RequestId"}
          content:
            application/yaml:
              schema: {type: object, required: [openapi, info, paths]}
            text/plain:
              schema: {type: string}
        "400": {$ref: "#/components/responses/Problem"}
        "401": {$ref: "#/components/responses/Problem"}
        "403": {$ref: "#/components/responses/Problem"}
        "406": {$ref: "#/components/responses/Problem"}
components:
  securitySchemes:
    clientCertificate:
      type: mutualTLS
      description: A certificate of the node's own authority, made by `joblet-certs`.
  parameters:
    JobId:
      name: id
      in: path
      required: true
      description: The job's ID.
      schema: {type: string, format: uuid}
    IdempotencyKey:
      name: Idempotency-Key
      in: header
      description: |
        The caller's own name for this request, best a new UUID: 1 to 255 ASCII characters without spaces, commas, quotes and
        backslashes (one pair of quotes around it is allowed).
      schema: {type: string, minLength: 1, maxLength: 255, pattern: "^[!#-+\\--\\[\\]-~]+$"}
    Prefer:
      name: Prefer
      in: header
      description: |
        `wait=SECONDS` (RFC 7240): the reply comes when the job has ended, or after so many seconds, 60 at most. Other
        preferences are ignored.
      schema: {type: string}
      examples:
        half-a-minute: {value: wait=30}
    IfNoneMatch:
      name: If-None-Match
      in: header
      description: Entity tags, with commas between, or `*`.
      schema: {type: string}
      examples:
        fourth: {value: 'W/"4"'}
    Since:
      name: since
      in: query
      description: Only from this time on. Not heeded with a `Last-Event-ID`, behind which all that follows is wanted (nor is `until`, with `order=desc`).
      schema: {$ref: "#/components/schemas/TimeText"}
    Until:
      name: until
      in: query
      description: Only up to this time. Not with `follow`.
      schema: {$ref: "#/components/schemas/TimeText"}
    Order:
      name: order
      in: query
      description: The oldest first, or the newest. `desc` not with `follow`; a `Last-Event-ID` is then the one to go on below.
      schema: {type: string, enum: [asc, desc], default: asc}
    Limit:
      name: limit
      in: query
      description: At most so many. Not with `follow`.
      schema: {type: integer, minimum: 1, maximum: 10000000}
    Offset:
      name: offset
      in: query
      description: Leave out the first so many of the answer, in its order. Not with `follow`.
      schema: {type: integer, minimum: 0, maximum: 1000000000, default: 0}
    LastEventId:
      name: Last-Event-ID
      in: header
      description: The `id` of the last event a client has; stands above `after`. Empty counts as absent.
      schema: {type: [integer, "null"], minimum: 0}
  headers:
    RequestId:
      description: The name of this request in the gateway's log and audit lines.
      schema: {type: string}
    Stale:
      description: Present while the isolation worker is away; for how many seconds it has been.
      schema: {type: integer}
    ETag:
      description: The record's `version`; of a job that runs it changes with every change of its state.
      schema: {type: string, pattern: '^W/"[0-9]+"$'}
    PreferenceApplied:
      description: Present if `Prefer` asked for a wait; how long it was at most.
      schema: {type: string, pattern: "^wait=[0-9]+$"}
    RetryAfter:
      description: Seconds after which a new try makes sense.
      schema: {type: integer}
  responses:
    Problem:
      description: The request is refused; `detail` says what to do.
      headers:
        X-Request-Id: {$ref: "#/components/headers/RequestId"}
      content:
        application/problem+json:
          schema: {$ref: "#/components/schemas/Problem"}
          examples:
            range:
              value:
                {"detail": "limits.pids: 0 is out of range; allowed is 1 to 4194304", "field": "limits.pids", "request_id": "019aa5f0-4e7b-7c31-9d2e-5f3a00000002", "status": 422, "title": "A field has a wrong value", "type": "urn:joblet:problem:invalid-field"}
    RetryLater:
      description: Not now. `Retry-After` says when to try again.
      headers:
        X-Request-Id: {$ref: "#/components/headers/RequestId"}
        Retry-After: {$ref: "#/components/headers/RetryAfter"}
      content:
        application/problem+json:
          schema: {$ref: "#/components/schemas/Problem"}
  schemas:
    JobRequest:
      type: object
      description: A field that is `null` counts as absent.
      required: [command]
      additionalProperties: false
      properties:
        command:
          type: string
          minLength: 1
          maxLength: 131071
          description: A program in the job's root, by path or looked up in its `PATH`.
        args: {type: [array, "null"], items: {type: string, maxLength: 131071}, maxItems: 4096}
        env: {type: [object, "null"], additionalProperties: {type: string}}
        secret_env:
          type: [object, "null"]
          additionalProperties: {type: string}
          description: Like `env`; the values are in no record, log or audit line.
        limits: {oneOf: [{$ref: "#/components/schemas/Limits"}, {type: "null"}]}
        name: {type: [string, "null"], minLength: 1, maxLength: 128}
        timeout:
          type: [string, "null"]
          description: How long the job may run, `100ms` to `365d`; absent means the node's default.
          pattern: "^[0-9]+(ms|s|m|h|d)$"
        labels: {type: [object, "null"], additionalProperties: {type: string, maxLength: 256}, maxProperties: 64}
        merge:
          type: [boolean, "null"]
          default: false
          description: One pipe for stdout and stderr, where true order between them matters; all lines are then `stdout`.
        seccomp:
          type: [string, "null"]
          enum: [strict, default, compat, null]
          description: The profile of system calls, the node's own or a stricter one; absent means the node's. From the strictest on.
    Limits:
      type: object
      description: In a request what is asked for, in a record what is applied, the node's defaults filled in; there no field is `null`.
      additionalProperties: false
      properties:
        cpu_percent: {type: [integer, "null"], minimum: 1, maximum: 100000, description: Percent of one core.}
        cpu_weight: {type: [integer, "null"], minimum: 1, maximum: 10000, description: "The job's share of a busy CPU, beside a job of weight 100."}
        cpu_cores:
          type: [string, "null"]
          maxLength: 4096
          pattern: "^[0-9]{1,4}(-[0-9]{1,4})?(,[0-9]{1,4}(-[0-9]{1,4})?)*$"
          description: The CPUs it may run on, each once; all of them must be online and the node's to give.
          examples: ["0-3,6"]
        memory_mb: {type: [integer, "null"], minimum: 1, maximum: 16777216, description: MiB; no swap on top.}
        memory_high_mb: {type: [integer, "null"], minimum: 1, maximum: 16777216, description: "MiB above which the job is slowed down and its memory reclaimed; at most `memory_mb`."}
        io_bps: {type: [integer, "null"], minimum: 4096, maximum: 1125899906842624, description: "Bytes a second from, and as many to, the disk that the job's workspace is on."}
        pids: {type: [integer, "null"], minimum: 1, maximum: 4194304, description: Processes and threads together.}
    StopOptions:
      type: object
      additionalProperties: false
      properties:
        grace:
          type: [string, "null"]
          description: Between SIGTERM and the kill, `0` to `1h`; absent means the node's default.
    JobStatus:
      type: string
      enum: [QUEUED, SCHEDULED, INITIALIZING, RUNNING, PAUSED, COMPLETED, FAILED, STOPPED, CANCELED]
    JobReason:
      type: string
      enum: [exit_code, signal, oom_killed, timeout, setup_failed, seccomp_violation, init_lost, node_restarted, node_lost]
    JobUsage:
      type: object
      properties:
        cpu_usec: {type: integer}
        memory_peak_bytes: {type: integer}
        io_read_bytes: {type: integer}
        io_write_bytes: {type: integer}
    JobRecord:
      type: object
      required: [id, command, args, env, secret_env, limits, labels, status, created_at, node_id, owner, version]
      properties:
        id: {type: string, format: uuid}
        name: {type: string}
        command: {type: string}
        args: {type: array, items: {type: string}}
        env: {type: object, additionalProperties: {type: string}}
        secret_env: {type: object, additionalProperties: {const: "***"}}
        limits: {$ref: "#/components/schemas/Limits"}
        timeout: {type: string}
        labels: {type: object, additionalProperties: {type: string}}
        seccomp: {type: string, enum: [strict, default, compat]}
        status: {$ref: "#/components/schemas/JobStatus"}
        exit_code: {type: integer}
        signal: {type: integer}
        reason: {$ref: "#/components/schemas/JobReason"}
        message: {type: string}
        created_at: {type: string, format: date-time}
        started_at: {type: string, format: date-time}
        ended_at: {type: string, format: date-time}
        scheduled_at: {type: string, format: date-time}
        node_id: {type: string}
        owner: {type: string, description: The common name of the certificate that posted it.}
        version: {type: integer, minimum: 1, description: One more with every change.}
        last_seq: {type: integer, minimum: 0, description: The number of the last log line.}
        usage: {$ref: "#/components/schemas/JobUsage"}
        traceparent: {type: string, description: The W3C trace context of the call that posted it.}
    ProblemTypes:
      type: object
      required: [problems]
      properties:
        problems:
          type: array
          items:
            type: object
            required: [type, title, status]
            properties:
              type: {type: string}
              title: {type: string}
              status: {type: integer, minimum: 400, maximum: 599}
    JobList:
      type: object
      required: [jobs]
      properties:
        jobs: {type: array, items: {$ref: "#/components/schemas/JobRecord"}}
        next_cursor: {type: string, description: Absent on the last page.}
    TimeText:
      type: string
      maxLength: 64
      description: |
        An RFC 3339 time, Unix seconds (a fraction is allowed), how long ago (a whole number and `ms`, `s`, `m`, `h` or `d`),
        or `now`.
      examples: ["2026-11-22T01:00:00Z", "1795309200.5", 1h, now]
    LogLine:
      type: object
      required: [seq, ts, stream]
      properties:
        seq: {type: integer, minimum: 1, description: "Counts both streams' lines together, in the order they were read."}
        ts: {type: string, format: date-time}
        stream: {type: string, enum: [stdout, stderr]}
        partial: {type: boolean, description: "True if no newline followed: part of a line over 64 KiB, or a prompt."}
        line: {type: string}
        b64: {type: string, contentEncoding: base64, description: Instead of `line` where the bytes are not UTF-8.}
    MetricSample:
      type: object
      description: What is not measured is absent, never 0. Counters count from the job's start.
      required: [seq, ts]
      properties:
        seq: {type: integer, minimum: 1, description: A job's samples count on their own.}
        ts: {type: string, format: date-time}
        cpu_percent: {type: number, description: "CPU time since the sample before, in percent of one core."}
        cpu_usec: {type: integer, description: "CPU time since the start, in microseconds."}
        memory_bytes: {type: integer}
        memory_peak_bytes: {type: integer}
        io_read_bytes: {type: integer}
        io_write_bytes: {type: integer}
        io_read_ops: {type: integer}
        io_write_ops: {type: integer}
        net_rx_bytes: {type: integer, description: "Every interface of the job but the loopback."}
        net_tx_bytes: {type: integer}
        pids: {type: integer, description: "Processes and threads."}
        psi_cpu: {type: number, description: "Percent of the last 10 seconds in which some task of the job waited for it."}
        psi_memory: {type: number}
        psi_io: {type: number}
        gpu_percent: {type: number}
        gpu_memory_bytes: {type: integer}
    MetricsOverTime:
      type: object
      description: The samples of an interval made into one; only what at least one of them measured.
      required: [ts, aggregate, samples]
      properties:
        ts: {type: string, format: date-time, description: "The interval's start; without an interval, the first sample's time."}
        aggregate: {type: string, enum: [avg, min, max, sum, p95]}
        samples: {type: integer, minimum: 1}
        cpu_percent: {type: number}
        cpu_usec: {type: number}
        memory_bytes: {type: number}
        memory_peak_bytes: {type: number}
        io_read_bytes: {type: number}
        io_write_bytes: {type: number}
        io_read_ops: {type: number}
        io_write_ops: {type: number}
        net_rx_bytes: {type: number}
        net_tx_bytes: {type: number}
        pids: {type: number}
        psi_cpu: {type: number}
        psi_memory: {type: number}
        psi_io: {type: number}
        gpu_percent: {type: number}
        gpu_memory_bytes: {type: number}
    Gap:
      type: object
      required: [from, to]
      properties:
        from: {type: integer}
        to: {type: integer}
    JobEnd:
      type: object
      required: [status]
      properties:
        status: {$ref: "#/components/schemas/JobStatus"}
        exit_code: {type: integer}
        signal: {type: integer}
        reason: {$ref: "#/components/schemas/JobReason"}
        ended_at: {type: string, format: date-time}
    JobsDeleted:
      type: object
      required: [deleted, more]
      properties:
        deleted: {type: integer, minimum: 0, description: How many were deleted by this call.}
        more: {type: boolean, description: "True if the call's time was up before all were: the same call goes on."}
    JobDeleted:
      type: object
      required: [id]
      properties:
        id: {type: string, format: uuid}
    EventsSynced:
      type: object
      required: [jobs]
      properties:
        jobs: {type: integer, minimum: 0, description: How many jobs were sent before.}
    EventsGap:
      type: object
      required: [since]
      properties:
        since: {type: string, format: date-time, description: "Changes from this time until now may be missing."}
    NodeStatus:
      type: object
      description: What could not be measured, or whose teller is away, is absent, never 0.
      required: [time, node_id, versions]
      properties:
        time: {type: string, format: date-time}
        node_id: {type: string}
        address: {type: string, description: "Where it is reached, `host:port`."}
        ready: {type: boolean, description: It takes new jobs.}
        reasons: {type: array, items: {type: string}, description: Why it is not ready.}
        versions: {$ref: "#/components/schemas/NodeVersions"}
        host: {$ref: "#/components/schemas/HostDescription"}
        cpu: {$ref: "#/components/schemas/ProcessorFigures"}
        memory: {$ref: "#/components/schemas/MemoryFigures"}
        load: {$ref: "#/components/schemas/LoadFigures"}
        pressure: {$ref: "#/components/schemas/PressureReport"}
        disks: {type: array, items: {$ref: "#/components/schemas/DiskFigures"}, description: "The file systems Joblet keeps something on, each once."}
        network: {type: array, items: {$ref: "#/components/schemas/InterfaceFigures"}, description: Every interface but the loopback.}
        jobs: {$ref: "#/components/schemas/NodeJobs"}
        services: {$ref: "#/components/schemas/NodeServices"}
        certificates: {type: array, items: {$ref: "#/components/schemas/CertificateStatus"}}
        gateway: {$ref: "#/components/schemas/GatewayFigures"}
    NodeVersions:
      type: object
      properties:
        api: {type: string}
        exec: {type: string}
        persist: {type: string}
    HostDescription:
      type: object
      properties:
        hostname: {type: string}
        os: {type: string}
        kernel: {type: string}
        architecture: {type: string}
        booted_at: {type: string, format: date-time}
    ProcessorFigures:
      type: object
      properties:
        count: {type: integer, description: CPUs that are online.}
        model: {type: string}
        used_percent: {type: number, description: "Since the look before, in percent of one core."}
        busy_usec: {type: integer}
        idle_usec: {type: integer}
        iowait_usec: {type: integer}
        steal_usec: {type: integer}
    MemoryFigures:
      type: object
      properties:
        total_bytes: {type: integer}
        available_bytes: {type: integer}
        free_bytes: {type: integer}
        cached_bytes: {type: integer}
        swap_total_bytes: {type: integer}
        swap_free_bytes: {type: integer}
    LoadFigures:
      type: object
      required: [one_minute, five_minutes, fifteen_minutes]
      properties:
        one_minute: {type: number}
        five_minutes: {type: number}
        fifteen_minutes: {type: number}
    PressureReport:
      type: object
      description: Absent where the kernel does not account it.
      properties:
        cpu: {$ref: "#/components/schemas/PressureFigures"}
        memory: {$ref: "#/components/schemas/PressureFigures"}
        io: {$ref: "#/components/schemas/PressureFigures"}
    PressureFigures:
      type: object
      description: Percent of the last 10 and 60 seconds in which some task waited, or all did; microseconds since the boot.
      properties:
        some_avg10: {type: number}
        some_avg60: {type: number}
        some_total_usec: {type: integer}
        full_avg10: {type: number}
        full_avg60: {type: number}
        full_total_usec: {type: integer}
    DiskFigures:
      type: object
      required: [path, holds]
      properties:
        path: {type: string, description: A directory on the file system.}
        holds: {type: array, items: {type: string}, description: "What is kept there: `workspaces`, `logs`, `metrics`, `volumes`, `state`."}
        device: {type: string, description: The disk it is on; absent where it has none of its own.}
        total_bytes: {type: integer}
        available_bytes: {type: integer}
        inodes: {type: integer}
        inodes_available: {type: integer}
        read_bytes: {type: integer, description: By the disk since the boot.}
        write_bytes: {type: integer}
        read_ops: {type: integer}
        write_ops: {type: integer}
        busy_usec: {type: integer}
    InterfaceFigures:
      type: object
      required: [name, rx_bytes, tx_bytes, rx_packets, tx_packets, rx_errors, tx_errors, rx_dropped, tx_dropped]
      properties:
        name: {type: string}
        rx_bytes: {type: integer}
        tx_bytes: {type: integer}
        rx_packets: {type: integer}
        tx_packets: {type: integer}
        rx_errors: {type: integer}
        tx_errors: {type: integer}
        rx_dropped: {type: integer}
        tx_dropped: {type: integer}
    NodeJobs:
      type: object
      properties:
        running: {type: integer}
        queued: {type: integer}
        max_running: {type: integer, description: Places for running jobs.}
        max_queued: {type: integer}
        by_status: {type: object, additionalProperties: {type: integer}, description: "All jobs that have not ended, and the newest 1,000 that have."}
        cpu_usec: {type: integer, description: All jobs together.}
        memory_bytes: {type: integer}
        memory_limit_bytes: {type: integer}
        pids: {type: integer}
        pids_limit: {type: integer}
    NodeServices:
      type: object
      required: [exec]
      properties:
        exec: {$ref: "#/components/schemas/ExecState"}
        persist: {$ref: "#/components/schemas/PersistState"}
    ExecState:
      type: object
      required: [connected]
      properties:
        connected: {type: boolean}
    PersistState:
      type: object
      required: [connected]
      description: Absent where nothing is stored.
      properties:
        connected: {type: boolean}
        backend: {type: string}
        free_bytes: {type: integer}
        oldest: {type: string, format: date-time, description: When the oldest job began whose data is kept.}
        accepts_jobs: {type: boolean}
        reason: {type: string, description: Why it takes no new jobs.}
    CertificateStatus:
      type: object
      required: [name, subject, not_after, days_left, state]
      properties:
        name: {type: string, description: "`server` or `authority`."}
        subject: {type: string}
        not_after: {type: string, format: date-time}
        days_left: {type: integer, description: Whole days; below 0 once it has ended.}
        state: {type: string, enum: [valid, expiring, expired], description: It is `expiring` in its last 30 days.}
    GatewayFigures:
      type: object
      required: [connections, streams]
      properties:
        connections: {type: integer}
        streams: {type: integer}
    NodeList:
      type: object
      required: [nodes]
      properties:
        nodes: {type: array, items: {$ref: "#/components/schemas/NodeSummary"}}
    NodeSummary:
      type: object
      required: [node_id, ready, version, seen_at]
      properties:
        node_id: {type: string}
        address: {type: string}
        ready: {type: boolean}
        reasons: {type: array, items: {type: string}}
        version: {type: string}
        hostname: {type: string}
        cpus: {type: integer}
        memory_bytes: {type: integer}
        memory_available_bytes: {type: integer}
        load: {type: number, description: Of the last minute.}
        running: {type: integer}
        queued: {type: integer}
        max_running: {type: integer}
        seen_at: {type: string, format: date-time}
    Problem:
      type: object
      required: [type, title, status, detail, request_id]
      properties:
        type:
          type: string
          enum:
            - urn:joblet:problem:bad-request
            - urn:joblet:problem:invalid-field
            - urn:joblet:problem:unauthenticated
            - urn:joblet:problem:forbidden
            - urn:joblet:problem:not-found
            - urn:joblet:problem:method-not-allowed
            - urn:joblet:problem:not-acceptable
            - urn:joblet:problem:conflict
            - urn:joblet:problem:idempotency-key-reused
            - urn:joblet:problem:idempotency-key-in-use
            - urn:joblet:problem:too-large
            - urn:joblet:problem:unsupported-media-type
            - urn:joblet:problem:too-many-jobs
            - urn:joblet:problem:internal-error
            - urn:joblet:problem:unavailable
        title: {type: string}
        status: {type: integer}
        detail: {type: string}
        field: {type: string}
        retry_after: {type: integer}
        request_id: {type: string}
"""# + "\n"
