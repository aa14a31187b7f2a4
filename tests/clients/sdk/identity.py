"""Identity: projects, users, roles; and what a plain member may and may not do."""

from cloud import expect
from sdk.asked import connect, ids, names, refused

PASSWORD = "correct horse 1"


def tell(sdk):
    project = sdk.identity.create_project(name="sdk-project", description="made by the SDK", domain_id="default")
    expect("the project is found by name", sdk.identity.find_project("sdk-project").id == project.id)
    project = sdk.identity.update_project(project, description="changed")
    expect("the change is seen", sdk.identity.get_project(project.id).description == "changed")
    user = sdk.identity.create_user(name="sdk-user", password=PASSWORD, domain_id="default", default_project_id=project.id)
    role = sdk.identity.find_role("member")
    sdk.identity.assign_project_role_to_user(project, user, role)
    expect("the assignment is there", sdk.identity.validate_user_has_project_role(project, user, role))
    assignments = list(sdk.identity.role_assignments(user_id=user.id, scope_project_id=project.id))
    expect("and is listed", len(assignments) == 1, assignments)
    expect("users are listed", user.id in ids(sdk.identity.users()))
    expect("roles imply the next", {"admin", "manager", "member", "reader"} <= names(sdk.identity.roles()))
    return project, user


def as_member(environment, project, user):
    """The member's own connection."""
    member = connect(environment, OS_USERNAME=user.name, OS_PASSWORD=PASSWORD, OS_PROJECT_NAME=project.name)
    expect("a member lists its servers: none", list(member.compute.servers()) == [])
    refused("a member lists all users", 403, member.identity.users)
    network = member.network.create_network(name="sdk-mine")
    expect("what a member makes is its project's", network.project_id == project.id)
    member.network.delete_network(network)
    expect("a member does not see the administrator's private network", member.network.find_network("private") is None)
    return member
