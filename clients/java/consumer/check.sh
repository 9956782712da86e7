#!/bin/sh
# Publishes the client into an empty folder, as to a repository, and looks at it as a stranger does: what lies there is what
# Maven Central asks for, a project of its own resolves it, and an image of Java with the module alone makes calls.
# Arguments go to Maven, such as -Dmaven.repo.local=DIR.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
version=$(sed -n 's|.*<graphpipe.version>\(.*\)</graphpipe.version>.*|\1|p' pom.xml)

mvn -q -B "$@" -f ../pom.xml -P release -pl client deploy -DskipTests "-DaltDeploymentRepository=folder::file:$work/published"
there="$work/published/org/graphpipe/graphpipe-client/$version/graphpipe-client-$version"
for file in "$there.pom" "$there.jar" "$there-sources.jar" "$there-javadoc.jar"; do
  test -s "$file" || { echo "not published: $file" >&2; exit 1; }
done
for element in name description url licenses scm developers; do
  grep -q "<$element>" "$there.pom" || { echo "the published pom has no $element" >&2; exit 1; }
done
if grep -q "<parent>\|<dependency>" "$there.pom"; then
  echo "the published pom has a parent or dependencies" >&2
  exit 1
fi
jar tf "$there.jar" > "$work/files"
grep -qx "META-INF/LICENSE" "$work/files"
grep -qx "module-info.class" "$work/files"

# From the folder: what an earlier build left in the local repository is not looked at.
local="$HOME/.m2/repository"
for argument in "$@"; do
  case "$argument" in
    -Dmaven.repo.local=*) local="${argument#-Dmaven.repo.local=}" ;;
  esac
done
rm -rf "$local/org/graphpipe/graphpipe-client/$version"
mvn -q -B "$@" -f pom.xml "-Dpublished=file:$work/published" compile
jlink --module-path "$there.jar:target/classes" --add-modules org.graphpipe.consumer,jdk.crypto.ec --output "$work/image"
"$work/image/bin/java" -m org.graphpipe.consumer/org.graphpipe.consumer.Main | tee "$work/said"
test "$(grep -c '^true no connection to' "$work/said")" = 3
grep -qx "module org.graphpipe" "$work/said"
echo "published, resolved, linked"
